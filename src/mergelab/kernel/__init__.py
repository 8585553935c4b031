# SPDX-License-Identifier: GPL-2.0-only
"""Kernels from source, patches, module and configuration, built once per set of inputs."""
