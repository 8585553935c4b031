#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-only
"""Ansible module: misspelt variables and unusable keys, seen from the controller."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: lab_validate
short_description: Look for misspelt variables and unusable keys
description: Changes nothing; fails with everything that was found.
options:
  host: {type: str, required: true}
  roles: {type: path, required: true}
  names: {type: list, elements: str, required: true}
  others: {type: list, elements: str, default: []}
  key: {type: path, default: ""}
"""


def main() -> None:
    """Parse the arguments and call mergelab.lab."""
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "roles": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "others": {"type": "list", "elements": "str", "default": []},
            "key": {"type": "path", "default": "", "no_log": False},
        },
        supports_check_mode=True,
    )
    from mergelab.errors import MergelabError  # noqa: PLC0415  the controller's environment has it, a host's has not
    from mergelab.lab import preflight, variables  # noqa: PLC0415  as above

    args = module.params
    try:
        found = variables.unknown(args["names"], variables.inputs(Path(args["roles"])), set(args["others"]))
    except MergelabError as error:
        module.fail_json(msg=str(error))
    if args["key"]:
        found += preflight.key_problems(args["host"], Path(args["key"]))
    if found:
        module.fail_json(msg="\n".join(found), problems=found)
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
