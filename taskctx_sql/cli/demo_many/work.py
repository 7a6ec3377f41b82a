"""What the tasks are about: the kinds of work, their texts, tools and models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Model:
    """A model, with its prices in US dollars for a million tokens."""

    model_id: str
    provider_id: str
    read_price: float
    write_price: float
    tokens_a_second: float
    reasons: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool: how many seconds a call takes in the middle, and how often it fails, from 0 to 1, and why."""

    name: str
    seconds: float
    failure_rate: float
    error: str
    argument: str
    result: str


@dataclass(frozen=True, slots=True)
class Work:
    """A kind of task. Texts have a ``{subject}``; a call of a tool is about it, too."""

    team: str
    project: str
    framework: str
    share: float
    title: str
    requests: tuple[str, ...]
    subjects: tuple[str, ...]
    answer: str
    correction: str
    tools: tuple[Tool, ...]
    models: tuple[str, ...]
    steps: tuple[int, int]
    files: tuple[str, ...] = ()
    sub_task: str = ""


MODELS: Final[Mapping[str, Model]] = {
    model.model_id: model
    for model in (
        Model("gpt-4o", "openai", 2.50, 10.0, 90),
        Model("gpt-4o-mini", "openai", 0.15, 0.60, 140),
        Model("claude-sonnet-4-5", "anthropic", 3.0, 15.0, 70, reasons=True),
        Model("claude-haiku-4-5", "anthropic", 1.0, 5.0, 160),
        Model("gemini-2.5-flash", "google", 0.30, 2.50, 200, reasons=True),
    )
}

_FETCH = Tool("fetch_page", 1.4, 0.09, "HTTP 503: the site does not answer", "url", "12 paragraphs, 3 tables")
_SEARCH = Tool("web_search", 0.8, 0.02, "rate limit: 30 searches a minute", "query", "10 results")
_READ = Tool("read_file", 0.02, 0.01, "no such file", "path", "214 lines")
_EDIT = Tool("edit_file", 0.03, 0.06, "the text to replace is not there", "path", "1 place changed")
_TESTS = Tool("run_tests", 38.0, 0.31, "AssertionError: 2 of 148 tests failed", "selection", "148 passed")
_ORDERS = Tool("find_order", 0.25, 0.03, "no order of this number", "order", "shipped 3 days ago")
_REFUND = Tool("refund_order", 1.9, 0.08, "the payment service refused: refund window is over", "order", "refunded")
_EXTRACT = Tool("extract_fields", 6.5, 0.12, "the scan cannot be read", "document", "total, date, supplier")
_LEDGER = Tool("post_to_ledger", 0.6, 0.05, "the period is closed", "entry", "posted")
_GLOSSARY = Tool("look_up_term", 0.1, 0.01, "no entry", "term", "one entry")

WORK: Final = (
    Work(
        team="support",
        project="help desk",
        framework="openai_agents",
        share=0.34,
        title="Order {subject}",
        requests=(
            "My order {subject} has not arrived. Where is it?",
            "I would like to return order {subject}, the color is not what the picture shows.",
            "¿Dónde está mi pedido {subject}? Llevo dos semanas esperando.",
            "我的订单 {subject} 还没有到, 请帮我查一下。",
            "Order {subject} came with a customs form that I do not understand. What do I have to pay?",
        ),
        subjects=tuple(f"A-{number}" for number in range(40100, 40900, 7)),
        answer="Order {subject} is on its way, and should arrive within two days.",
        correction="Order {subject} went back to the warehouse. A new one was sent today.",
        tools=(_ORDERS, _ORDERS, _REFUND),
        models=("gpt-4o-mini", "gpt-4o-mini", "gpt-4o"),
        steps=(1, 4),
    ),
    Work(
        team="finance",
        project="invoices",
        framework="langgraph",
        share=0.24,
        title="Invoice {subject}",
        requests=(
            "Enter the invoice {subject}.",
            "Compare the invoice {subject} with its delivery note, and enter it.",
            "Bitte die Rechnung {subject} prüfen und buchen. Die Gebühr für Überweisungen ist abzuziehen.",
        ),
        subjects=tuple(f"2026-{number:04}" for number in range(17, 900, 11)),
        answer="Invoice {subject} is posted.",
        correction="Invoice {subject} is posted with the reduced tax rate.",
        tools=(_EXTRACT, _LEDGER),
        models=("gemini-2.5-flash", "gpt-4o-mini"),
        steps=(2, 5),
        files=("/invoices/{subject}.pdf", "/ledger/{subject}.csv"),
    ),
    Work(
        team="research",
        project="market reports",
        framework="pydantic_ai",
        share=0.18,
        title="Report on {subject}",
        requests=(
            "Write two pages on {subject}, with sources.",
            "What changed in {subject} during the last three months?",
        ),
        subjects=(
            "heat pumps in Norway",
            "the price of lithium",
            "electric ferries",
            "recycling of blades of wind turbines",
            "night trains",
            "desalination",
            "vertical farms",
            "cement without carbon",
        ),
        answer="The report on {subject} has 2 pages and 9 sources.",
        correction="The report on {subject} has 2 pages and 11 sources; one was withdrawn.",
        tools=(_SEARCH, _FETCH, _FETCH),
        models=("claude-sonnet-4-5", "gpt-4o"),
        steps=(4, 14),
        files=("/reports/{subject}.md",),
        sub_task="Sources on {subject}",
    ),
    Work(
        team="platform",
        project="billing service",
        framework="claude_agent_sdk",
        share=0.17,
        title="Fix {subject}",
        requests=(
            "Find out why {subject} fails, and repair it with a test.",
            "Review {subject}, and remove what nobody uses.",
        ),
        subjects=(
            "rounding of yen",
            "the retry of payments",
            "the export of invoices",
            "time zones in statements",
            "the cache of exchange rates",
            "the nightly sums",
            "pagination of the list of customers",
        ),
        answer="{subject}: repaired, with a test that failed before.",
        correction="{subject}: repaired; the test covers years with 366 days, too.",
        tools=(_READ, _READ, _EDIT, _TESTS),
        models=("claude-sonnet-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"),
        steps=(5, 18),
        files=("/src/billing/money.py", "/src/billing/payments.py", "/tests/test_money.py", "/src/billing/rates.py"),
        sub_task="Review of {subject}",
    ),
    Work(
        team="content",
        project="translations",
        framework="adk",
        share=0.07,
        title="Translation of {subject}",
        requests=(
            "Translate {subject} into Japanese and German.",
            "{subject} を日本語に翻訳してください。製品名はそのままにします。",
        ),
        subjects=("the manual of the pump", "the terms of delivery", "the page on warranties", "the press release"),
        answer="{subject}: 取扱説明書の翻訳が完了しました。 Die Übersetzung ist fertig.",
        correction="{subject}: the names of the products are unchanged now.",
        tools=(_GLOSSARY, _GLOSSARY),
        models=("gemini-2.5-flash",),
        steps=(2, 6),
        files=("/content/de/{subject}.md", "/content/ja/{subject}.md"),
    ),
)

# The largest task, with one step for each module.
MIGRATION: Final = Work(
    team="platform",
    project="billing service",
    framework="claude_agent_sdk",
    share=0,
    title="Move the billing service to the new ledger",
    requests=("Move all of {subject} to the new ledger, module by module. Run the tests after each one.",),
    subjects=("the billing service",),
    answer="{subject} uses the new ledger in all of its modules.",
    correction="{subject} uses the new ledger in all of its modules but for the archive.",
    tools=(_READ, _EDIT, _TESTS),
    models=("claude-sonnet-4-5",),
    steps=(600, 600),
    files=WORK[3].files,
)

USERS: Final = tuple(
    f"{team}-{number}" for team in ("north", "south", "east", "west", "online") for number in range(1, 6)
)
