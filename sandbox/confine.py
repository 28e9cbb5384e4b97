"""The guest's system call filter: ``seccomp.json`` as a program for the kernel. See ``runner.py``.

``seccomp.json`` is in Docker's format (names, actions, conditions on arguments); ``syscalls.json`` has the
numbers of those names. The server puts the filter on itself before the first program; every process that it
starts has it from its first moment, at no cost.
"""

import ctypes
import os
import struct

LIBC = ctypes.CDLL(None)
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, ERRNO, KILL_PROCESS = 0x7FFF0000, 0x00050000, 0x80000000
LOAD, JUMP_EQUAL, JUMP_LEAST, AND, RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in what the kernel shows of a call
STEP = struct.Struct("=HBBI")  # operation, steps to jump if it holds and if not, constant
OTHER_ABI = 0x40000000  # x86's x32 calls: other numbers for the same calls


class Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))


def build(profile, tables):
    """Translate a profile for this machine into the kernel's code. Raises RuntimeError."""
    machine = os.uname().machine
    if machine not in tables:
        raise RuntimeError(f"syscalls.json: no numbers for {machine}; known: {', '.join(tables)}")
    numbers = tables[machine]["numbers"]
    refuse = ERRNO | profile["defaultErrnoRet"]
    steps = [(LOAD, 0, 0, ARCHITECTURE), (JUMP_EQUAL, 1, 0, tables[machine]["audit"]), (RETURN, 0, 0, KILL_PROCESS)]
    steps += [(LOAD, 0, 0, NUMBER), (JUMP_LEAST, 0, 1, OTHER_ABI), (RETURN, 0, 0, KILL_PROCESS)]
    for rule in profile["syscalls"]:
        action = ALLOW if rule["action"] == "SCMP_ACT_ALLOW" else ERRNO | rule["errnoRet"]
        for number in sorted(numbers[name] for name in rule["names"] if name in numbers):
            tests = [step for condition in rule.get("args", ()) for step in condition_steps(condition)]
            body = [*tests, (RETURN, 0, 0, action)] + ([(LOAD, 0, 0, NUMBER)] if tests else [])
            # A condition that does not hold jumps behind the RETURN, another number behind the whole body.
            steps.append((JUMP_EQUAL, 0, len(body), number))
            steps += [
                (code, *(len(body) - at - 2 if way is None else way for way in ways), value)
                for at, (code, *ways, value) in enumerate(body)
            ]
    steps.append((RETURN, 0, 0, refuse))
    return b"".join(STEP.pack(*step) for step in steps)


def condition_steps(condition):
    """Compare the low half of an argument, all that these calls read of it; None stands for "does not hold"."""
    place = ARGUMENTS + 8 * condition["index"]
    if condition["op"] == "SCMP_CMP_EQ":
        return [(LOAD, 0, 0, place), (JUMP_EQUAL, 0, None, condition["value"])]
    if condition["op"] == "SCMP_CMP_NE":
        return [(LOAD, 0, 0, place), (JUMP_EQUAL, None, 0, condition["value"])]
    if condition["op"] == "SCMP_CMP_MASKED_EQ":
        return [
            (LOAD, 0, 0, place),
            (AND, 0, 0, condition["value"]),
            (JUMP_EQUAL, 0, None, condition["valueTwo"]),
        ]
    raise RuntimeError(f"seccomp.json: op {condition['op']!r} is not one of SCMP_CMP_EQ, _NE, _MASKED_EQ")


def put_on(code):
    """Filter this process's calls from here on, and those of all that it starts. Raises OSError."""
    program = Program(len(code) // STEP.size, code)
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or LIBC.prctl(
        PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0
    ):
        raise OSError("the kernel takes no seccomp filter")
