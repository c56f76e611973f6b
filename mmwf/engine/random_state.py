"""Random numbers that depend on the iteration only, so that a resumed run draws the same ones."""

import random
from collections.abc import Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

MODEL, DATA, EPOCH = range(3)  # streams of random numbers


def set_seeds(*key: int) -> None:
    """Seeds Python, NumPy and torch (the CPU, and the GPUs if they are in use).

    Args:
        key: Non-negative integers. Keys that differ give independent random numbers.
    """
    words = [int(word) for word in np.random.SeedSequence(key).generate_state(4)]
    random.seed(words[0])
    np.random.seed(words[1])
    seed = words[2] << 32 | words[3]
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


class Draw(NamedTuple):
    """A sample to load: the index in the dataset, for which iteration and place in the batch."""

    iteration: int
    place: int
    index: int


class SeededDataset(Dataset):
    """A dataset whose random augmentation depends on what a sample is loaded for only.

    It does not depend on which process loads the sample or what that process has loaded before.

    Args:
        dataset: The dataset; its attributes can be read from this one.
    """

    def __init__(self, dataset: Dataset):
        self.dataset = dataset
        self.key = (0,)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, draw: Draw | int) -> Any:
        if not isinstance(draw, Draw):
            return self.dataset[draw]
        set_seeds(*self.key, DATA, draw.iteration, draw.place)
        return self.dataset[draw.index]

    def __getattr__(self, name: str) -> Any:
        # Not __getitems__, which would get draws, nor 'dataset' while being unpickled.
        if name.startswith('__') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)


class NumberedBatches:
    """Batches of indices, numbered by the iteration that they are for.

    Args:
        batches: A batch sampler.
        endless: Whether to start over at the end, as training that counts iterations needs.

    Attributes:
        first: The iteration of the first batch of the next pass.
        skip: The number of batches to leave out at the start of the next pass.
    """

    def __init__(self, batches, endless: bool = False):
        self.batches = batches
        self.endless = endless
        self.first = self.skip = 0

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batches':
            raise AttributeError(name)
        return getattr(self.batches, name)  # such as batch_size and sampler

    def __iter__(self) -> Iterator[list[Draw]]:
        batches = self._passes() if self.endless else self.batches
        skip, self.skip = self.skip, 0
        for iteration, batch in islice(enumerate(batches, self.first), skip, None):
            yield [Draw(iteration, place, index) for place, index in enumerate(batch)]

    def _passes(self) -> Iterator[list[int]]:
        epoch = 0
        while True:
            empty = True
            for batch in self.batches:
                yield batch
                empty = False
            if empty:
                raise RuntimeError('Expected batches, but the sampler has no indices.')
            epoch += 1
            set_epoch = getattr(getattr(self.batches, 'sampler', None), 'set_epoch', None)
            if set_epoch:
                set_epoch(epoch)


def seed_loader(loader: DataLoader, endless: bool = False) -> DataLoader:
    """Returns the loader with a :class:`SeededDataset` and :class:`NumberedBatches`.

    Args:
        loader: Of a dataset with indices, in batches.
        endless: As in :class:`NumberedBatches`.

    Raises:
        TypeError: If the dataset is iterable only, or not loaded in batches.
    """
    if isinstance(loader.dataset, IterableDataset) or loader.batch_sampler is None:
        raise TypeError(
            'Expected a DataLoader of batches from a dataset with indices, got '
            f'{type(loader.dataset).__name__} and batch_sampler={loader.batch_sampler}.'
        )
    return DataLoader(
        SeededDataset(loader.dataset),
        batch_sampler=NumberedBatches(loader.batch_sampler, endless),
        num_workers=loader.num_workers,
        collate_fn=loader.collate_fn,
        pin_memory=loader.pin_memory,
        timeout=loader.timeout,
        worker_init_fn=loader.worker_init_fn,
        multiprocessing_context=loader.multiprocessing_context,
        generator=loader.generator,
        prefetch_factor=loader.prefetch_factor,
        persistent_workers=loader.persistent_workers,
        pin_memory_device=loader.pin_memory_device,
        in_order=loader.in_order,
    )


class EndlessIterator:
    """Batches without end; stands in for the iterator of MMEngine's IterBasedTrainLoop.

    A resumed loop first asks for the batches of the iterations that are over. They are not loaded:
    the :class:`NumberedBatches` of the loader leave them out.

    Args:
        loader: From :func:`seed_loader`, with ``endless=True``.
    """

    def __init__(self, loader: DataLoader):
        self.loader = loader
        self.pending = 0  # batches that the loop will ask for and not use
        self._iterator = None

    def skip_iter(self, num_iters: int) -> None:
        """Leaves out the batches of finished iterations; called by MMEngine 0.10.12."""
        self.pending = 0

    def __next__(self) -> Any:
        if self.pending:  # MMEngine 0.10.7 calls next() for each of them
            self.pending -= 1
            return None
        if self._iterator is None:
            self._iterator = iter(self.loader)
        return next(self._iterator)
