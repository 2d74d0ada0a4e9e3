"""The table of training runs, one row for each finished stage."""

from datetime import UTC, datetime
from pathlib import Path

from vcae.training.devices import name_of
from vcae.training.trainer import Result, Trainer

COLUMNS = (*("date", "recipe", "stage", "steps", "hours", "minutes", "device", "git", "validation", "out"),)


def append_row(table: Path | None, recipe: str, trainer: Trainer, result: Result) -> None:
    """Append a row to a table with tabs, and begin it with a head if it is new.

    Nothing is appended without a table, for a run that was stopped, for one that made no step, and by other
    processes than the first. hours: of speech. validation: losses after the last step.
    """
    if not (table and result.finished and result.new_steps and trainer.processes.first):
        return
    losses = " ".join(f"{name}={value:.4g}" for name, value in result.validation.items())
    row = (
        datetime.now(UTC).strftime("%Y-%m-%d"),
        recipe,
        trainer.stage.name,
        str(result.steps),
        f"{result.hours:.2f}",
        f"{result.minutes:.1f}",
        name_of(trainer.device),
        trainer.git or "",
        losses,
        str(trainer.folder),
    )
    table.parent.mkdir(parents=True, exist_ok=True)
    head = "" if table.exists() else "\t".join(COLUMNS) + "\n"
    with table.open("a", encoding="utf-8") as file:
        file.write(head + "\t".join(cell.replace("\t", " ") for cell in row) + "\n")
