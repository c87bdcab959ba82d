"""A progress bar over many prompts, on standard error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from octavo.base.outputs import RequestOutput


@contextmanager
def progress_bar(total: int, *, shown: bool) -> Iterator[Callable[[RequestOutput], None]]:
    """Yields a function to call with each finished request; shows requests and output tokens per second."""
    if not shown:
        yield lambda _: None
        return
    from tqdm import tqdm

    tokens = 0
    with tqdm(total=total, desc="Generating", unit="req", dynamic_ncols=True) as bar:

        def advance(output: RequestOutput) -> None:
            nonlocal tokens
            tokens += sum(len(o.token_ids) for o in output.outputs)
            elapsed = bar.format_dict["elapsed"] or 1e-9
            bar.set_postfix_str(f"{tokens / elapsed:.1f} output tokens/s", refresh=False)
            bar.update()

        yield advance
