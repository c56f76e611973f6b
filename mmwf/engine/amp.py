"""Mixed precision on GPU and CPU."""

import torch
from mmengine.optim import AmpOptimWrapper as MMEngineAmpOptimWrapper
from mmengine.optim import OptimWrapper

from mmwf.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class AmpOptimWrapper(MMEngineAmpOptimWrapper):
    """MMEngine's AmpOptimWrapper, with bf16 as the default and support for the CPU.

    bf16 has the range of fp32, so it does not overflow and needs no loss scaling.

    Args:
        dtype: ``'bfloat16'`` or ``'float16'``. Default: bf16, but fp16 on GPUs that only
            emulate bf16.
        loss_scale: As in MMEngine; only used with fp16.
        **kwargs: As in :class:`mmengine.optim.OptimWrapper`.

    Raises:
        ValueError: If ``dtype`` is unknown, or fp16 on a CPU.
    """

    def __init__(self, dtype: str | None = None, loss_scale='dynamic', **kwargs):
        cuda = torch.cuda.is_available()
        if dtype is None:
            emulated = cuda and not torch.cuda.is_bf16_supported(including_emulation=False)
            dtype = 'float16' if emulated else 'bfloat16'
        if dtype not in ('bfloat16', 'float16'):
            raise ValueError(f"Expected dtype 'bfloat16' or 'float16', got {dtype!r}.")
        if dtype == 'float16':
            if not cuda:
                raise ValueError("Expected dtype 'bfloat16' on a CPU, got 'float16'.")
            super().__init__(loss_scale=loss_scale, dtype=dtype, **kwargs)
            return
        # MMEngine's constructor requires a GPU and enables the loss scaler.
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param = None
        self.loss_scaler = torch.amp.GradScaler('cuda' if cuda else 'cpu', enabled=False)
        self.cast_dtype = torch.bfloat16

    def load_state_dict(self, state_dict: dict) -> None:
        """Loads the states of the optimizer and, if the checkpoint has one, of the loss scaler.

        A run in bf16 has no loss scale: resumed with fp16, it starts with the initial one.
        """
        if not state_dict.get('loss_scaler'):
            state_dict = {key: value for key, value in state_dict.items() if key != 'loss_scaler'}
        super().load_state_dict(state_dict)
