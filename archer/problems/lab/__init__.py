"""The embedded laboratory: three tiny tasks, a tokenizer and a base model this project trains itself."""

from archer.problems.lab.arithmetic import Arithmetic
from archer.problems.lab.code import Code
from archer.problems.lab.countdown import Countdown

TASKS = {task.name: task for task in (Arithmetic(), Countdown(), Code())}
