"""Resumed runs that end with the weights of uninterrupted ones."""

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop

from mmwf.errors import UserError
from mmwf.registry import HOOKS

from .random_state import EPOCH, MODEL, EndlessIterator, seed_loader, set_seeds


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Lets a run that was stopped anywhere and resumed end with the same weights, bit by bit.

    The random numbers of a training step are those of its seed, rank and iteration, and those of a
    sample's augmentation depend on its iteration and place in the batch, too. So no states of
    random number generators are saved, and the number of workers can change, whose states ahead of
    training could not be saved. A run resumed in the middle of an epoch leaves out the batches that
    were used.

    The checkpoint has what else the order of the data depends on: numbers of processes, of images
    per batch and per dataset, and the sampler's seed. Except for the seed, which is restored,
    resuming with others is an error.

    Args:
        strict: ``False`` warns instead of raising the error. The learning rate does not change.

    Note:
        Exact on CPUs. On GPUs, some operations of PyTorch are not deterministic, and the first
        step of a run sums the gradients of more than two processes in another order. Gradients
        accumulated when a checkpoint is written are lost, so its interval should be a multiple of
        ``accumulative_counts``.
    """

    priority = 'VERY_HIGH'  # before hooks that draw random numbers

    def __init__(self, strict: bool = True):
        self.strict = strict

    def before_run(self, runner) -> None:
        """Replaces the training loader by one whose samples are seeded one by one."""
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return  # testing
        self._endless = hasattr(loop, 'dataloader_iterator')
        loop.dataloader = seed_loader(loop.dataloader, self._endless)
        if self._endless:
            loop.dataloader_iterator = EndlessIterator(loop.dataloader)
            sampler = loop.dataloader.batch_sampler.sampler
            if isinstance(sampler, InfiniteSampler):
                # The loop of MMEngine 0.10.7 has read the first indices already.
                sampler.indices = sampler._indices_of_rank()

    def before_train_epoch(self, runner) -> None:
        """Tells the loader at which iteration training is.

        Raises:
            UserError: If that iteration is not in this epoch.
        """
        loop, batches = runner.train_loop, runner.train_dataloader.batch_sampler
        set_seeds(runner.seed, EPOCH, runner.epoch)  # samplers may draw from the global generators
        runner.train_dataloader.dataset.key = (runner.seed, get_rank())
        batches.first = 0 if self._endless else runner.epoch * len(batches)
        batches.skip = runner.iter - batches.first
        if self._endless:
            advances = not getattr(loop, 'fast_forward_on_resume', False)
            loop.dataloader_iterator.pending = runner.iter if advances else 0
        elif not 0 <= batches.skip <= len(batches):
            raise UserError(
                f'The checkpoint is of iteration {runner.iter} in epoch {runner.epoch + 1}, but '
                f'with {len(batches)} batches per epoch that one starts at {batches.first}. '
                'Expected the dataset and batch size of the run that wrote it.'
            )

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Seeds the random numbers of the step."""
        set_seeds(runner.seed, MODEL, runner.iter)

    def _describe(self, runner) -> dict[str, int]:
        return dict(
            processes=get_world_size(),
            batch_size=runner.train_dataloader.batch_sampler.batch_size,
            accumulative_counts=getattr(runner.optim_wrapper, '_accumulative_counts', 1),
            images=len(runner.train_dataloader.dataset),
        )

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Adds ``meta['data']``: what the order of the data depends on."""
        data = self._describe(runner)
        data['batches_per_epoch'] = len(runner.train_dataloader)
        sampler = runner.train_dataloader.batch_sampler.sampler
        data['sampler_seed'] = getattr(sampler, 'seed', None)
        checkpoint['meta']['data'] = data

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Compares ``meta['data']`` with the resumed run, and restores the sampler's seed.

        Raises:
            UserError: If they differ and the hook is strict.
        """
        saved = checkpoint.get('meta', {}).get('data')
        if not getattr(runner, '_resume', False) or saved is None:
            return
        sampler = runner.train_dataloader.batch_sampler.sampler
        if saved['sampler_seed'] is not None:
            sampler.seed = saved['sampler_seed']
        now = self._describe(runner)
        other = [f'{k}={saved[k]} (now {v})' for k, v in now.items() if saved[k] != v]
        if not other:
            return
        message = (
            f'The checkpoint is of a run with {", ".join(other)}. Resuming with others changes the '
            'order of the data and, with another total batch size, what the learning rate means.'
        )
        if self.strict:
            raise UserError(
                f'{message} To do it all the same, add '
                '--cfg-options default_hooks.exact_resume.strict=False.'
            )
        runner.logger.warning(message)
        if not self._endless:  # the same share of the epochs
            share = checkpoint['meta']['iter'] / saved['batches_per_epoch']
            checkpoint['meta']['iter'] = round(share * len(runner.train_dataloader))
