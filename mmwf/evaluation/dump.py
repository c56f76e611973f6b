"""Writing predictions to a file."""

from collections.abc import Sequence

from mmengine.evaluator import DumpResults

from mmwf.registry import METRICS


@METRICS.register_module()
class DumpSegResults(DumpResults):
    """MMEngine's DumpResults without the logits, which do not fit into memory for a whole dataset.

    Takes the arguments of MMEngine's.
    """

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Stores the samples of a batch without ``seg_logits``."""
        without_logits = [{k: v for k, v in s.items() if k != 'seg_logits'} for s in data_samples]
        super().process(data_batch, without_logits)
