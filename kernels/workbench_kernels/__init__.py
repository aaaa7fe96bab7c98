"""The engine's kernels: one folder per operation, with a reference and an implementation per backend.

Nothing here knows the engine. workbench_kernels.dispatch says which implementation runs and why.
"""
