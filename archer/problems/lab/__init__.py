"""The lab: three tiny tasks, for the tokenizer and base model that this project trains itself."""

from archer.problems.lab.arithmetic import ArithmeticTask
from archer.problems.lab.code import CodeTask
from archer.problems.lab.countdown import CountdownTask

TASKS = {task.name: task for task in (ArithmeticTask(), CountdownTask(), CodeTask())}
