"""swe-srl: Supervised Reinforcement Learning (arXiv 2510.25992) for software-engineering agents.

The data flows one way, and each arrow is a function you can call in a REPL:

    logs ──formats──▶ Trajectory ──steps──▶ Step ──render──▶ prompt ids
                                                               │ policy (engine)
                                                               ▼
    update ◀─objective─ packed tree ◀─tree─ Sample ◀─group─ Completion ──actions──▶ Action
                                              ▲                                     │
                                              └──────────── reward ◀────────────────┘
"""

__version__ = "0.1.0"
