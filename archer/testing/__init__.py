"""Contract suites: what every algorithm, reward and engine must do, to be run on one's own.

In: a part. Out: nothing, or an AssertionError with a sentence that says what does not hold. May use: all rooms but
the commands. The project's own parts go through them in ``tests/contracts``.

    from archer.testing import check_algorithm

    def test_mine():
        check_algorithm(MINE)
"""

from archer.testing.algorithm import check_algorithm
from archer.testing.engine import check_engine
from archer.testing.reward import RewardExample, check_reward

__all__ = ["RewardExample", "check_algorithm", "check_engine", "check_reward"]
