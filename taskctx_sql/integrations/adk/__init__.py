"""The session service of Google's Agent Development Kit, over the tables of this library. Needs the extra ``adk``.

    session_service = ContextSessionService("sqlite:///tasks.db")
    runner = Runner(agent=agent, app_name="app", session_service=session_service)

`ContextSessionService`
    keeps sessions with their events and the three scopes of their state, and the tokens that events report.
`RunPlugin`
    adds how each run ended, the models that were asked, durations, and errors.
"""

from taskctx_sql.integrations.requirements import needs

with needs("google-adk", "adk"):
    from taskctx_sql.integrations.adk.plugin import RunPlugin
    from taskctx_sql.integrations.adk.sessions import ContextSessionService

__all__ = ["ContextSessionService", "RunPlugin"]
