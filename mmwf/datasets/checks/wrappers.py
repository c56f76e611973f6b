"""Dataset configs inside wrappers."""

from collections.abc import Iterator

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader', 'bank_dataloader')


def unwrap(dataset: dict) -> Iterator[dict]:
    """Yields the dataset configs inside wrappers such as ConcatDataset and RepeatDataset.

    Args:
        dataset: A dataset config, wrapped or not.
    """
    inner = dataset.get('datasets') or dataset.get('dataset')
    if not inner:
        yield dataset
        return
    for child in inner if isinstance(inner, (list, tuple)) else [inner]:
        yield from unwrap(child)
