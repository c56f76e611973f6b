"""Throughput and peak memory of models on the CPU or a GPU.

Each model runs in its own process, so that its peak memory is measured alone and a model that runs
out of memory does not stop the others. The models are timed in turns, so that other load on the
machine affects them alike.
"""

import contextlib
import itertools
import json
import multiprocessing
import platform
import re
import signal
import statistics
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from mmwf.models import WeightFormer

DTYPES = {'fp32': torch.float32, 'bf16': torch.bfloat16, 'fp16': torch.float16}
MODES = ('forward', 'forward-backward')
OUT_OF_MEMORY = 'out of memory'
#: Prefix of the names of models to compile.
COMPILED = 'compiled:'


@dataclass
class Settings:
    """Settings of a measurement.

    Attributes:
        device: ``'cpu'`` or ``'cuda'``.
        dtype: ``'fp32'``, or ``'bf16'`` or ``'fp16'`` with autocast, as in training with ``--amp``.
        mode: ``'forward'`` (inference) or ``'forward-backward'`` (training without the optimizer).
        compile: Whether to compile the model, of WeightFormer the blocks, with ``torch.compile``.
        batch_size: Images per batch.
        turns: Number of times that each model is timed; the median is reported.
        seconds: Approximate length of a turn, which has at least one run.
    """

    device: str = 'cpu'
    dtype: str = 'fp32'
    mode: str = 'forward'
    compile: bool = False
    batch_size: int = 1
    turns: int = 10
    seconds: float = 0.5


def describe_machine(device: str = 'cpu') -> dict:
    """Describes the machine.

    Args:
        device: ``'cpu'`` or ``'cuda'``.

    Returns:
        ``device`` (name of the processor or GPU), ``threads`` (of PyTorch on the CPU), ``torch``
        and ``python`` (versions).
    """
    if device == 'cuda':
        name = torch.cuda.get_device_name()
    else:
        cpuinfo = Path('/proc/cpuinfo')
        lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
        names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
        name = names[0] if names else platform.processor() or platform.machine()
    return dict(
        device=name,
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        python=platform.python_version(),
    )


def peak_memory_mib(step: Callable[[], object], held: int, device: str = 'cpu') -> float:
    """Measures the peak memory of a run in MiB: the peak of PyTorch's allocator.

    Args:
        step: The function to run; it must have run before, so that everything is loaded.
        held: Bytes allocated before and after the run, by weights and images.
        device: ``'cpu'`` or ``'cuda'``.
    """
    if device == 'cuda':
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() / 2**20
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.filterwarnings('ignore', message='.*Profiler clears events')
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            step()
        trace = Path(folder) / 'trace.json'
        profiler.export_chrome_trace(str(trace))
        events = json.loads(trace.read_text())['traceEvents']
    events = sorted((e for e in events if e['name'] == '[memory]'), key=lambda e: e['ts'])
    changes = (event['args']['Bytes'] for event in events)  # negative if memory is freed
    return (held + max(itertools.accumulate(changes), default=0)) / 2**20


def seconds_per_run(
    step: Callable[[], object], runs: int, device: str = 'cpu', clock=time.perf_counter
) -> float:
    """Times several runs together and returns the seconds per run; waits for a GPU to finish."""
    synchronize = torch.cuda.synchronize if device == 'cuda' else lambda: None
    synchronize()
    start = clock()
    for _ in range(runs):
        step()
    synchronize()
    return (clock() - start) / runs


def make_step(model: nn.Module, images: Tensor, settings: Settings) -> Callable[[], None]:
    """Returns the function to time, one run of a model on a batch."""
    training = settings.mode == 'forward-backward'
    model.train(training)
    run = model
    if settings.compile and isinstance(model, WeightFormer):
        model.compile_blocks()
    elif settings.compile:
        run = torch.compile(model)
    dtype = DTYPES[settings.dtype]
    autocast = torch.autocast(images.device.type, dtype, enabled=dtype != torch.float32)

    def step() -> None:
        with torch.inference_mode(not training), autocast:
            outputs = run(images)
        if training:
            outputs = [outputs] if isinstance(outputs, Tensor) else outputs
            sum(output.float().mean() for output in outputs).backward()
            model.zero_grad()

    return step


def _measure(
    build: Callable[[], nn.Module], size: int, settings: Settings
) -> Iterator[float | None]:
    """Yields the peak memory of a model in MiB or None, then seconds per run without end."""
    device = settings.device
    model = build().to(device)
    images = torch.randn(settings.batch_size, 3, size, size, device=device)
    step = make_step(model, images, settings)
    step()  # warm-up and compilation
    runs = max(1, round(settings.seconds / seconds_per_run(step, 1, device)))
    held = [*model.parameters(), *model.buffers(), images]
    if getattr(model, 'memory_is_unknown', False):
        yield None
    else:
        yield peak_memory_mib(step, sum(tensor.nbytes for tensor in held), device)
    while True:
        step()  # re-warms the caches
        yield seconds_per_run(step, runs, device)


def _is_out_of_memory(error: Exception) -> bool:
    known = "out of memory|can't allocate memory|ALLOC_FAILED"
    return isinstance(error, MemoryError) or bool(re.search(known, str(error)))


def _serve(connection, *args) -> None:
    """Answers each request with ``(error, result)`` of the next :func:`_measure`."""
    measurements = _measure(*args)
    while True:
        try:
            connection.recv()
        except EOFError:  # no more requests
            return
        try:
            reply = None, next(measurements)
        except Exception as error:
            reply = OUT_OF_MEMORY if _is_out_of_memory(error) else traceback.format_exc(), None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()  # for the other models
        connection.send(reply)


class _Worker:
    """A process that measures a model."""

    def __init__(self, *args):
        context = multiprocessing.get_context('spawn')
        self.connection, child_connection = context.Pipe()
        self.process = context.Process(target=_serve, args=(child_connection, *args), daemon=True)
        self.process.start()
        child_connection.close()
        self.error = None

    def next_result(self) -> float | None:
        """Returns the next result, or None if memory ran out, which sets ``error``.

        Raises:
            RuntimeError: If the model fails for another reason.
        """
        self.request()
        return self.receive()

    def request(self) -> None:
        """Requests the next result, without waiting for it."""
        if not self.error:
            with contextlib.suppress(ConnectionError):  # receive() reports it
                self.connection.send(None)

    def receive(self) -> float | None:
        """Waits for the requested result (see :meth:`next_result`)."""
        if self.error:
            return None
        try:
            self.error, result = self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            if self.process.exitcode != -signal.SIGKILL:
                raise RuntimeError(
                    f'A measuring process ended with exit code {self.process.exitcode}.'
                ) from None
            self.error, result = OUT_OF_MEMORY + ' (killed by the system)', None
        if self.error and not self.error.startswith(OUT_OF_MEMORY):
            raise RuntimeError(f'Cannot measure a model:\n{self.error}')
        if self.error:
            self.stop()  # frees its memory for the other models
        return result

    def stop(self) -> None:
        """Ends the process."""
        self.connection.close()
        self.process.join()


def measure(
    models: dict[str, Callable[[], nn.Module]], size: int, settings: Settings
) -> list[dict]:
    """Measures models at one image size.

    Args:
        models: By name, functions that build the models. They must be picklable: functions of a
            module, or a ``functools.partial`` of one.
        size: Height and width of the images in pixels.
        settings: Settings of the measurement. Models whose name starts with ``compiled:`` are
            compiled in any case.

    Returns:
        For each model ``model`` (its name), ``size``, ``images_per_second`` (median of the turns),
        ``memory_per_image_mib`` (peak memory, including weights, divided by the batch size; not of
        modules with ``memory_is_unknown = True``, which allocate it outside of PyTorch),
        ``seconds`` (per run, for each turn), and ``speed_ratio`` and ``memory_ratio`` to the first
        model. If memory runs out, ``error`` instead of the measurements.

    Raises:
        RuntimeError: If a model fails for another reason than memory.
    """
    jobs = {
        name: (build, replace(settings, compile=settings.compile or name.startswith(COMPILED)))
        for name, build in models.items()
    }
    rows = measure_jobs(jobs, size)
    add_ratios(rows)
    return rows


def measure_jobs(
    jobs: dict[str, tuple[Callable[[], nn.Module], Settings]], size: int
) -> list[dict]:
    """Measures models in turns, each with its own settings, at one image size.

    Args:
        jobs: By name, the function that builds the model and its settings.
        size: Height and width of the images in pixels.

    Returns:
        As :func:`measure`, without ratios.

    Raises:
        RuntimeError: If a model fails for another reason than memory.
    """
    workers = {name: _Worker(build, size, settings) for name, (build, settings) in jobs.items()}
    try:
        if all(settings.device == 'cuda' for _, settings in jobs.values()):
            for worker in workers.values():  # all are set up and compiled at the same time
                worker.request()
            memory = {name: worker.receive() for name, worker in workers.items()}
        else:
            memory = {name: worker.next_result() for name, worker in workers.items()}
        seconds = {name: [] for name in workers}
        for _ in range(max(settings.turns for _, settings in jobs.values())):
            for name, worker in workers.items():
                seconds[name].append(worker.next_result())
    finally:
        for worker in workers.values():
            worker.stop()
    rows = []
    for name, worker in workers.items():
        row = dict(model=name, size=size)
        if worker.error:
            row['error'] = worker.error
        else:
            batch_size = jobs[name][1].batch_size
            row['images_per_second'] = batch_size / statistics.median(seconds[name])
            if memory[name] is not None:
                row['memory_per_image_mib'] = memory[name] / batch_size
            row['seconds'] = seconds[name]
        rows.append(row)
    return rows


def add_ratios(rows: list[dict]) -> None:
    """Adds the ratios of speed and memory to the first row, where both were measured.

    The ratio of speed is the median over the turns of the first model's seconds per image to this
    model's, because a turn of all models meets the same load on the machine.
    """
    first = rows[0]
    if 'error' in first:
        return
    for row in rows:
        if 'error' not in row:
            pairs = zip(first['seconds'], row['seconds'], strict=True)
            row['speed_ratio'] = statistics.median(a / b for a, b in pairs)
            key = 'memory_per_image_mib'
            if key in row and key in first:
                row['memory_ratio'] = row[key] / first[key]
