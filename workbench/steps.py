"""Steps as `llm.step()` hands them out: a list that reads well in a notebook."""

from workbench.core.records import StepRecord, some_ids
from workbench.tables import html_table, time_cell


class Steps(list[StepRecord]):
    """Records of successive steps; shown as what each step decided about whom, and why."""

    def __repr__(self) -> str:
        return "\n".join(map(str, self)) or "no step: the engine has nothing to do"

    def _repr_html_(self) -> str:
        rows = []
        for record in self:
            first = (
                str(record.step),
                time_cell(record.duration),
                f"{record.num_scheduled_tokens:,} of {record.token_budget:,}",
                f"{record.num_free_blocks:,}",
            )
            for ids, sentence in record.sentences() or [((), "nothing was left to decide")]:
                rows.append((*first, some_ids(ids), sentence))
                first = ("", "", "", "")
        if not rows:
            return "<p>no step: the engine has nothing to do</p>"
        return html_table(("step", "took", "tokens", "free blocks", "requests", "decision"), rows)
