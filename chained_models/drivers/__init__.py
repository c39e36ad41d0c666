"""Where the work runs: ``inline``, ``threads``, ``asyncio``. A driver knows jobs and times, and no chains."""
