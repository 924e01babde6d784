"""ONNX Runtime beside torch, in one process: the weights are those that torch has read, and waiting threads sleep."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_QUIET = 3  # errors only: at each session it would say which nodes it did not move


class OnnxSession:
    """A graph bound to the weights of a module, on the CPU.

    Threads do not spin while they wait: the product has other processes. Memory comes from the allocator that torch
    uses, not from an arena of its own, so that what one has freed the other takes, and both give it back when idle
    (memory.give_back_freed); with an arena it was no faster. The runtime packs the weights into a layout of its own, so
    they are in memory twice: torch's serve calls with LoRAs.
    """

    def __init__(self, content: bytes, weights: Sequence[str], module: torch.nn.Module, threads: int) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.enable_cpu_mem_arena = False
        options.log_severity_level = _QUIET
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        state = module.state_dict()
        self._kept = [state[name].detach().contiguous().numpy() for name in weights]  # it reads small ones in place
        self._values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in self._kept]
        if weights:
            options.add_external_initializers([f"module.{name}" for name in weights], self._values)
        self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        self.bytes = sum(array.nbytes for array in self._kept) or len(content)

    def run(self, feeds: dict[str, torch.Tensor], outputs: Sequence[str]) -> list[torch.Tensor]:
        """Tensors by name in, the named outputs out."""
        arrays = {name: tensor.detach().contiguous().numpy() for name, tensor in feeds.items()}
        return [torch.from_numpy(array) for array in self._session.run(list(outputs), arrays)]
