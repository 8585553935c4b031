"""Kernels from source, patches, module and configuration, built once per set of inputs."""
