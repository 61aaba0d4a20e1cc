"""Running a cell over time: the strategies, and the choice among them."""

from charjax.unroll.execution import Execution

__all__ = ["Execution"]
