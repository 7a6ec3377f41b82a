"""Agent frameworks that keep their sessions, checkpoints and events in the tables of this library.

Each framework has a module of its own and an extra of the same name, and follows the framework's protocol. They all
write the same types of updates into the same tables, so that reports, forks, earlier states, retention, row-level
security and transfers hold for what any of them wrote. The section "Integrations" of the docs has a page for each.

Nothing is imported here: a module needs its framework, which the package itself never does.

    `identity`    the key and the labels of a framework's session, thread or task
    `opening`     a store that is given, or opened at an address when it is needed
    `recording`   the updates and model uses that all of them write
"""
