#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-only
"""Ansible module: prepare the controller for emulated hosts."""

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: virtual_host_controller
short_description: Check and prepare the controller of emulated hosts
description:
  - Reports everything that is in the way at once, chooses the accelerator, and starts or ends libvirt's
    daemons where no service manager does.
options:
  state: {type: str, choices: [ready, checked, released], default: ready}
  uri: {type: str, required: true}
  accel: {type: str, choices: [auto, kvm, tcg], default: auto}
  tools: {type: dict, default: {}}
  files: {type: dict, default: {}}
  memory_mib: {type: int, default: 0}
  disk_mib: {type: dict, default: {}}
  ports: {type: dict, default: {}}
"""


def main() -> None:
    """Parse the arguments and call mergelab.lab."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["ready", "checked", "released"], "default": "ready"},
            "uri": {"type": "str", "required": True},
            "accel": {"type": "str", "choices": ["auto", "kvm", "tcg"], "default": "auto"},
            "tools": {"type": "dict", "default": {}},
            "files": {"type": "dict", "default": {}},
            "memory_mib": {"type": "int", "default": 0},
            "disk_mib": {"type": "dict", "default": {}},
            "ports": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    from mergelab.errors import MergelabError  # noqa: PLC0415  the controller's environment has it, a host's has not
    from mergelab.lab import accel, daemons, preflight  # noqa: PLC0415  as above

    args = module.params
    try:
        if args["state"] == "released":
            changed = False if module.check_mode else daemons.end(args["uri"])
            module.exit_json(changed=changed)
        found = preflight.problems(
            tools=args["tools"],
            files=args["files"],
            memory_mib=args["memory_mib"],
            disk_mib={directory: int(mib) for directory, mib in args["disk_mib"].items()},
            ports={host: int(port) for host, port in args["ports"].items()},
        )
        if found:
            module.fail_json(msg="\n".join(found), problems=found)
        chosen = accel.choose(args["accel"])
        changed = False
        if args["state"] == "ready" and not module.check_mode:
            changed = daemons.ensure(args["uri"])
    except MergelabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(
        changed=changed,
        accelerator=chosen.name,
        reason=chosen.reason,
        security_models=daemons.security_models(),
    )


if __name__ == "__main__":
    main()
