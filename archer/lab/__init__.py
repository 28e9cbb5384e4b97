"""The embedded laboratory: three tiny tasks, a tokenizer and a base model this project trains itself."""

from archer.lab.arithmetic import Arithmetic
from archer.lab.code import Code
from archer.lab.countdown import Countdown

TASKS = {task.name: task for task in (Arithmetic(), Countdown(), Code())}
