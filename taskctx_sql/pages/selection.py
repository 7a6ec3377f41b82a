"""What a person has chosen to see: a period, filters, an order and a page; read from an address and written to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from taskctx_sql import clock
from taskctx_sql.errors import InvalidArgumentError
from taskctx_sql.limits import MAX_NUMBER
from taskctx_sql.model.moments import read_moment
from taskctx_sql.model.report_filters import Filters, Moment
from taskctx_sql.model.report_rows import OUTCOMES

# The periods that can be chosen, with their words and days; None is everything.
PERIODS: Final[dict[str, tuple[str, int | None]]] = {
    "24h": ("24 hours", 1),
    "7d": ("7 days", 7),
    "30d": ("30 days", 30),
    "90d": ("90 days", 90),
    "all": ("all", None),
}
DEFAULT_PERIOD: Final = "30d"

# The filters that are texts, by the name that they have in an address.
_TEXTS: Final = ("user", "title", "outcome", "model", "tool", "kind", "path", "q", "by", "sort")
# A text that is empty, as an address has it: a form sends a field that nobody filled in without any value. No id of a
# user, and nothing else that is looked for, is a NUL.
_EMPTY: Final = "\x00"


@dataclass(frozen=True, slots=True)
class Selection:
    """What to show.

    Attributes:
        period: A key of `PERIODS`, or an empty text if ``since`` or ``until`` is given.
        since: The first day, or the first moment.
        until: The last day, or the moment after the last one.
        begun: Whether tasks are counted by when they began, and not by whether they were worked on in the period.
        user: Only this user's.
        labels: Only tasks with these labels: names with values.
        title: Only tasks with this text in their title.
        outcome: Only tasks, runs or calls with this outcome.
        model: Only what used this model.
        tool: Only what called this tool.
        kind: Only errors or updates of this kind.
        path: Only this file.
        q: The text that is searched for.
        by: What costs are added up by.
        sort: The column of the order, with a minus for the other direction; the view's own order if empty.
        page: The number of the page, from 1.
    """

    period: str = DEFAULT_PERIOD
    since: date | datetime | None = None
    until: date | datetime | None = None
    begun: bool = False
    user: str | None = None
    labels: tuple[tuple[str, str], ...] = ()
    title: str | None = None
    outcome: str | None = None
    model: str | None = None
    tool: str | None = None
    kind: str | None = None
    path: str | None = None
    q: str | None = None
    by: str | None = None
    sort: str | None = None
    page: int = 1

    def but(self, **changes: Any) -> Selection:
        """Return this with changes, on the first page unless another is given."""
        return replace(self, **{"page": 1, **changes})

    def on(self, day: date) -> Selection:
        """Return this with one day as its period."""
        return self.but(period="", since=day, until=day)

    def in_period(self) -> Selection:
        """Return only the period and the user of this: what stays when another view is opened."""
        return Selection(self.period, self.since, self.until, user=self.user)

    def parameters(self) -> list[tuple[str, str]]:
        """Return what differs from the default, as the names and values of an address."""
        found = [] if self.period in ("", DEFAULT_PERIOD) else [("period", self.period)]
        found += [(name, at.isoformat()) for name in ("since", "until") if (at := getattr(self, name)) is not None]
        found += [(name, text or _EMPTY) for name in _TEXTS if (text := getattr(self, name)) is not None]
        found += [("label", f"{name}={value}") for name, value in self.labels]
        found += [("begun", "1")] if self.begun else []
        return found + ([("page", str(self.page))] if self.page > 1 else [])

    def bounds(self, now: datetime) -> tuple[Moment | None, Moment | None]:
        """Return the beginning and the end of the period.

        The last 24 hours begin with a moment, and longer periods with a day, as days are what their charts show.
        """
        days = PERIODS[self.period][1] if self.period else None
        if days is None:
            return self.since, self.until
        if days == 1:
            return (now - timedelta(days=1)).replace(microsecond=0), None
        return now.date() - timedelta(days=days - 1), None

    def filters(self, now: datetime) -> Filters:
        """Return the period and the user as reports take them."""
        since, until = self.bounds(now)
        return {"since": since, "until": until, "user_id": self.user}

    @property
    def words(self) -> str:
        """The period in words."""
        if self.period:
            return "all time" if self.period == "all" else f"the last {PERIODS[self.period][0]}"
        if self.since == self.until and self.since is not None:
            return moment_text(self.since)
        begin = "the beginning" if self.since is None else moment_text(self.since)
        return f"{begin} to {'now' if self.until is None else moment_text(self.until)}"

    @property
    def narrowed(self) -> list[tuple[str, str, Selection]]:
        """The filters that hold besides the period: a name, the value, and this without that filter."""
        names = ("user", "title", "outcome", "model", "tool", "kind", "path", "q")
        found = [(name, text, self.but(**{name: None})) for name in names if (text := getattr(self, name)) is not None]
        for label in self.labels:
            rest = tuple(other for other in self.labels if other != label)
            found.append((f"label {label[0]}", label[1], self.but(labels=rest)))
        return found


def selection_of(parameters: Iterable[tuple[str, str]]) -> Selection:
    """Return the selection that an address names; names that it does not know are left out.

    An empty value is none, so that a form whose fields are empty selects nothing in particular.

    Raises:
        InvalidArgumentError: A value is not what it must be.
    """
    given: dict[str, Any] = {}
    labels: list[tuple[str, str]] = []
    for name, value in parameters:
        if not value:
            continue
        if name == "label":
            label, separator, text = value.partition("=")
            if not label or not separator:
                raise InvalidArgumentError("label", value, "a label: NAME=VALUE")
            labels.append((label, text))
        elif name in _TEXTS:
            given[name] = "" if value == _EMPTY else value
        elif name in ("since", "until"):
            given[name] = read_moment(name, value)
        elif name == "page":
            given[name] = _page(value)
        elif name == "begun":
            given[name] = value == "1"
        elif name == "period":
            if value not in PERIODS:
                raise InvalidArgumentError("period", value, f"one of {', '.join(PERIODS)}")
            given[name] = value
    if "since" in given or "until" in given:
        given["period"] = ""
    return Selection(**given, labels=tuple(labels))


def moment_text(moment: date | datetime) -> str:
    """Return a day or a moment in UTC as text."""
    return moment.strftime("%Y-%m-%d %H:%M") if isinstance(moment, datetime) else moment.isoformat()


def days_between(first: date, last: date) -> Iterator[date]:
    """Yield each day from the first to the last."""
    for number in range(first.toordinal(), last.toordinal() + 1):
        yield date.fromordinal(number)


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.fromtimestamp(clock.now(), UTC)


def check_outcome(outcome: str | None) -> None:
    """Raise InvalidArgumentError if an outcome is none of a task."""
    if outcome is not None and outcome not in OUTCOMES:
        raise InvalidArgumentError("outcome", outcome, f"one of {', '.join(OUTCOMES)}")


def _page(value: str) -> int:
    # The largest page is far beyond any table, and its number times the rows of a page is still a number of SQL.
    if not (value.isascii() and value.isdecimal() and 0 < int(value[:20]) <= MAX_NUMBER // 1000):
        raise InvalidArgumentError("page", value, "a number from 1")
    return int(value)
