"""Whether networks train in bfloat16; geometry and losses never do (geometry/precision.py)."""

import torch


def in_bfloat16(precision: str, device: torch.device) -> bool:
    """Say whether ``precision`` means bfloat16 on ``device``: ``auto`` does where the device multiplies in it.

    Those are GPUs that support it and CPUs with AMX: on two cores of one, a step of ``joint:tiny`` takes four fifths of
    its time in float32 (benchmarks/precision.py). Other CPUs convert back and forth.
    """
    if precision != "auto":
        return precision == "bfloat16"
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Older versions of torch do not tell what a CPU can do.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    return device.type == "cpu" and bool(capabilities.get("amx_bf16", False))
