"""The training loop. It names no method: losses, phases and predictions come from the method alone."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, Dataset

from egoflow.config import Run, first_difference, run_to_json
from egoflow.console import note, progress
from egoflow.data.clips import collate
from egoflow.errors import CheckpointError, ConfigError, TrainingError
from egoflow.methods.base import Method, Phase, phase_at
from egoflow.registry import build_method
from egoflow.training import checkpoint, distributed
from egoflow.training.checkpoint import State
from egoflow.training.held_out import Judge, held_out_figures
from egoflow.training.layout import lay_out
from egoflow.training.optim import clip_gradients, learning_rate, make_optimizer, set_rate
from egoflow.training.precision import in_bfloat16
from egoflow.training.recording import Recorder
from egoflow.training.sampler import StepSampler
from egoflow.training.watchdog import Watchdog, figures
from egoflow.types import Clip, LossTerms, Prediction


class Stopped(Exception):  # noqa: N818  not an error: the run is saved and can be resumed
    """Training was asked to stop by a signal; ``number`` is the signal's."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Trainer:
    """Train one method on one data set into one folder.

    ``out`` receives run.json, log.jsonl, last.safetensors and best.safetensors. With ``resume`` it goes on from
    last.safetensors exactly as if it had not been interrupted. ``held_out`` clips, if any, choose the best checkpoint,
    by what ``judge`` says of them. healthy.safetensors is the last one saved while the watchdog saw nothing.
    """

    def __init__(self, run: Run, dataset: Dataset, *, out: Path, resume: bool = False,
                 held_out: list[Clip] | None = None, judge: Judge | None = None) -> None:
        torch.set_flush_denormal(True)
        self.run, self.dataset, self.out, self.held_out = run, dataset, out, held_out or []
        self.judge = judge or held_out_figures
        self.device = distributed.pick_device(run.loop.device)
        self.rank, self.world = distributed.join(self.device)
        if run.optim.batch_size % self.world:
            raise ConfigError(f"optim.batch_size={run.optim.batch_size} does not divide over {self.world} processes")
        torch.manual_seed(run.loop.seed)
        self.method: Method = build_method(run)
        lay_out(self.method, device=self.device, channels_last=run.loop.channels_last)
        self.optimizer = make_optimizer(self.method, run.optim, rates=self.method.rates)
        self.state, self.watchdog = State(), Watchdog(harmless=self.method.harmless)
        if resume:
            self._restore()
        self.bf16 = in_bfloat16(run.loop.precision, self.device)
        self.phase: Phase | None = None
        self.wrapped: nn.Module = self.method
        self.signal: int | None = None

    def _restore(self) -> None:
        """Load last.safetensors of the folder; the run must be the same but for its length and book-keeping."""
        path = self.out / "last.safetensors"
        run, self.state, tensors = checkpoint.read(path)
        other = first_difference(run, self.run)
        if other is not None:
            raise CheckpointError(f"{path}: was trained with another {other}; resume with the same settings, or give "
                                  f"another --out")
        checkpoint.load_weights(self.method, tensors, path=path)
        checkpoint.load_optimizer(self.method, self.optimizer, tensors)
        if self.state.watch:
            self.watchdog = Watchdog(harmless=self.method.harmless, **self.state.watch)

    def fit(self) -> State:
        """Train to the end, a signal, the time limit or a collapse; the state is saved in every case but a collapse.

        Raises TrainingError for a non-finite loss or a collapse, Stopped after SIGTERM or Ctrl-C.
        """
        loop = self.run.loop
        sampler = StepSampler(size=len(self.dataset), batch=self.run.optim.batch_size, steps=loop.steps,  # type: ignore[arg-type]
                              first=self.state.step, seed=loop.seed, rank=self.rank, world=self.world)
        # Its own generator: an iterator must not draw from the random state that the checkpoint restored.
        loader = DataLoader(self.dataset, batch_sampler=sampler, collate_fn=collate, num_workers=loop.workers,
                            persistent_workers=loop.workers > 0, pin_memory=self.device.type == "cuda",
                            generator=torch.Generator().manual_seed(loop.seed))
        if self.state.step:
            # The phase of the last step: where the next one begins another, the best so far is no bar for it.
            self._enter_phase((self.state.step - 1) / loop.steps)
        self._write_run()
        recorder = Recorder(self.out, step=self.state.step) if self.rank == 0 else None
        try:
            with self._signals(), progress(loop.steps, label="training") as bar:
                bar.skip(self.state.step)
                self._loop(loader, recorder, bar)
        finally:
            if recorder is not None:
                recorder.close()
        return self.state

    def _loop(self, loader: DataLoader, recorder: Recorder | None, bar: progress) -> None:
        """Take every step that is left."""
        loop, started = self.run.loop, time.monotonic()
        before_s = self.state.elapsed_s
        for clip in loader:
            step = self.state.step + 1
            report = step % loop.log_every == 0 or step == loop.steps
            shown = self._step(clip.to(self.device, non_blocking=True), step, report=report)
            spent_s = time.monotonic() - started
            self.state = replace(self.state, step=step, elapsed_s=before_s + spent_s)
            bar.advance()
            if report:
                bar.tell(loss=shown["loss/total"])
                if recorder is not None:
                    recorder.write(step, {**shown, "time_s": self.state.elapsed_s})
                if loop.watchdog:
                    self.watchdog.check(step, shown)
            late = loop.minutes is not None and spent_s > 60 * loop.minutes
            stop = distributed.any_process(self.signal is not None or late, self.device)
            if stop or step % loop.save_every == 0 or step == loop.steps:
                self._save(recorder)
            if stop:
                if self.signal is not None:
                    raise Stopped(self.signal)
                note(f"stopped at step {step}: loop.minutes={loop.minutes:g} are over")
                return

    def _step(self, clip: Clip, step: int, *, report: bool) -> dict[str, float]:
        """Take one optimiser step; return what the log wants when ``report`` is set."""
        done = (step - 1) / self.run.loop.steps
        within = self._enter_phase(done)
        rate = learning_rate(self.run.optim, done, within)
        set_rate(self.optimizer, rate)
        self.optimizer.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            terms, prediction = self.wrapped(clip, within, done)
        total = terms.total
        self._refuse(total, clip, step, "loss", terms)
        total.backward()
        limit = self.run.optim.clip_norm
        norm = clip_gradients(self.method, limit)
        self._refuse(norm, clip, step, "gradient", terms)
        self.optimizer.step()
        return self._figures(terms, prediction, total, norm, rate) if report else {}

    def _enter_phase(self, done: float) -> float:
        """Freeze and free parameters when a phase begins; return the progress 0..1 within the phase."""
        phase, start = phase_at(self.method.phases(), done)
        if phase != self.phase:
            if self.phase is not None:
                # Another phase's losses are of another scale: the best of the last one is no bar for this one.
                self.state = replace(self.state, best=float("inf"))
            self.phase = phase
            for name, parameter in self.method.named_parameters():
                parameter.requires_grad_(name.startswith(phase.trains))
            self.method.train()
            self.wrapped = self.method if self.world == 1 else DistributedDataParallel(self.method)
        return min((done - start) / phase.share, 1.0)

    def _refuse(self, value: Tensor, clip: Clip, step: int, what: str, terms: LossTerms) -> None:
        """Stop before the optimiser step when ``value`` is not finite in any process, naming the samples to blame."""
        bad = not bool(torch.isfinite(value))
        if not distributed.any_process(bad, self.device):
            return
        names = [name for name, (_, term) in terms.items() if not bool(torch.isfinite(term))]
        raise TrainingError(f"step {step}: the {what} is not finite ({', '.join(names) or 'all terms are'}"
                            f"{'' if names else ' finite'}) for {', '.join(self._blamed(clip)) or 'another process'}; "
                            f"nothing was updated; look at these frames, or lower optim.lr")

    @torch.no_grad()
    def _blamed(self, clip: Clip) -> list[str]:
        """Return the keys of the samples whose own loss is not finite; all of them when none is by itself."""
        keys = clip.key or ("an unnamed sample",)
        bad = [key for i, key in enumerate(clip.key)
               if not bool(torch.isfinite(self.method(clip[i:i + 1], 1.0, 1.0)[0].total))]
        return list(bad or keys)

    def _figures(self, terms: LossTerms, prediction: Prediction, total: Tensor, norm: Tensor,
                 rate: float) -> dict[str, float]:
        """Return the step's figures, averaged over processes."""
        values = torch.stack([total.detach().float(), norm.detach().float(),
                              *(v.detach().float() for _, v in terms.values())])
        mean = distributed.mean_over_processes(values).tolist()
        return {"loss/total": mean[0], "grad_norm": mean[1], "lr": rate, **dict(zip(terms, mean[2:], strict=True)),
                **figures(prediction)}

    def _save(self, recorder: Recorder | None) -> None:
        """Write last.safetensors, and best.safetensors when the held-out figure is the lowest so far."""
        watch = {"first_depth": self.watchdog.first_depth, "counts": self.watchdog.counts}
        self.state = replace(self.state, watch=watch)
        found = (self.judge(self.method, self.held_out, self.device)
                 if self.held_out and self.run.loop.keep_best else {})
        score = next(iter(found.values()), float("inf"))
        better = score < self.state.best
        if better:
            self.state = replace(self.state, best=score)
        if self.rank == 0:
            # Before the checkpoint: a resumed run drops lines that are later than it, and none is missing.
            if recorder is not None and found:
                recorder.write(self.state.step, found)
            if better:
                checkpoint.save(self.out / "best.safetensors", self.run, self.method, self.state)
            checkpoint.save(self.out / "last.safetensors", self.run, self.method, self.state, self.optimizer)
            if self.run.loop.watchdog and not self.watchdog.counts:
                checkpoint.link(self.out / "last.safetensors", self.out / "healthy.safetensors")

    def _write_run(self) -> None:
        """Write the resolved configuration beside the checkpoints."""
        if self.rank == 0:
            self.out.mkdir(parents=True, exist_ok=True)
            temporary = self.out / "run.json.partial"
            temporary.write_text(run_to_json(self.run))
            temporary.replace(self.out / "run.json")

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGTERM and Ctrl-C into a save at the end of the step; a second Ctrl-C stops at once."""
        def handle(number: int, frame: Any) -> None:
            if self.signal is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.signal = number
            note(f"{signal.Signals(number).name}: saving after this step")

        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
