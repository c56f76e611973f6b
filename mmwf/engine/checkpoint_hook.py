"""Saving checkpoints so that no kill loses a run."""

import os

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import CheckpointHook as MMEngineCheckpointHook

from mmwf.checkpoints import find_newest, finish_digests, write_pointer
from mmwf.errors import UserError
from mmwf.registry import HOOKS


@HOOKS.register_module()
class CheckpointHook(MMEngineCheckpointHook):
    """MMEngine's CheckpointHook, which at any time leaves a complete checkpoint on the disk.

    - ``import mmwf`` makes MMEngine write each file beside its name and rename it
      (:mod:`mmwf.checkpoints.writing`).
    - Outdated checkpoints, and the previous best, are removed after the new one has been saved.
    - ``last_checkpoint`` is replaced likewise, and relative to the work dir, which can be moved.
    - ``resume=True`` without ``load_from`` resumes from the newest checkpoint that is not damaged.

    Takes the arguments of MMEngine's.
    """

    def before_run(self, runner) -> None:
        """Finds the checkpoint of a run that is to be resumed.

        Raises:
            UserError: If all checkpoints in the work dir are damaged.
        """
        if not runner._resume or runner._load_from is not None:
            return
        found = [None]
        if is_main_process():
            try:
                found = [(*find_newest(runner.work_dir), None)]
            except UserError as error:
                found = [(None, [], str(error))]
        broadcast_object_list(found)
        runner._load_from, skipped, error = found[0]
        if error:
            raise UserError(error)
        for message in skipped:
            runner.logger.warning(f'Skipped: {message}')
        if runner._load_from is None:
            runner._resume = False
            runner.logger.warning(f'There is nothing to resume in {runner.work_dir}.')

    def before_train(self, runner) -> None:
        """Prepares saving as MMEngine does, also if the work dir has been moved."""
        super().before_train(runner)
        for key, path in self._best_checkpoints():
            self._set_best(key, path and self._join(os.path.basename(path)))

    def after_train(self, runner) -> None:
        """Publishes checkpoints as MMEngine does, and waits for the digests."""
        super().after_train(runner)
        finish_digests()

    def save_as(self, runner, filename: str, meta: dict | None = None) -> None:
        """Saves a checkpoint now and makes it the last one.

        Args:
            runner: The Runner.
            filename: Its name, in the hook's folder.
            meta: Where a resumed run continues, ``dict(epoch=..., iter=...)``; default: as at the
                end of an epoch or an iteration, depending on ``by_epoch``.

        Raises:
            UserError: If it cannot be written.
        """
        self.last_ckpt = self._join(filename)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        runner.save_checkpoint(
            self.out_dir,
            filename,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        if is_main_process():
            write_pointer(runner.work_dir, self.last_ckpt)

    def _save_checkpoint_with_step(self, runner, step, meta):
        outdated = []
        if self.max_keep_ckpts > 0:
            kept = [*(other for other in self.keep_ckpt_ids if other != step), step]
            outdated = kept[: -self.max_keep_ckpts]
            self.keep_ckpt_ids.clear()
            self.keep_ckpt_ids.extend(kept)  # which drops the outdated ones
            # They are stored, so that a resumed run removes them if this one is killed before.
            runner.message_hub.update_info('keep_ckpt_ids', kept)
        self.save_as(runner, self.filename_tmpl.format(step), meta)
        for other in outdated:
            self._remove(self._join(self.filename_tmpl.format(other)))

    def _save_best_checkpoint(self, runner, metrics) -> None:
        before = self._best_checkpoints()
        for key, _ in before:
            self._set_best(key, None)  # MMEngine would remove it first
        super()._save_best_checkpoint(runner, metrics)
        after = dict(self._best_checkpoints())
        for key, path in before:
            if after[key] is None:
                self._set_best(key, path)
            elif path and path != after[key]:
                self._remove(path)
                runner.logger.info(f'The previous best checkpoint {path} is removed')

    def _best_checkpoints(self) -> list[tuple[str | None, str | None]]:
        """Returns the best checkpoint of each metric; the key is None if there is one metric."""
        if self.save_best is None:
            return []
        if len(self.key_indicators) == 1:
            return [(None, self.best_ckpt_path)]
        return list(self.best_ckpt_path_dict.items())

    def _set_best(self, key: str | None, path: str | None) -> None:
        if key is None:
            self.best_ckpt_path = path
        else:
            self.best_ckpt_path_dict[key] = path

    def _join(self, filename: str) -> str:
        return self.file_backend.join_path(self.out_dir, filename)

    def _remove(self, path: str) -> None:
        if is_main_process():
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
            elif self.file_backend.isdir(path):  # as DeepSpeed saves them
                self.file_backend.rmtree(path)
