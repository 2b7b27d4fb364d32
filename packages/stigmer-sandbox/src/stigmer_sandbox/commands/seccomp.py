"""A filter of system calls, as the bytes that Linux loads (seccomp-bpf, see seccomp(2) and bpf(4)).

What a sandboxed program has no business with is refused with EPERM: other namespaces and mounts, other processes'
memory, the kernel's keys, modules and clocks, and the newest interfaces, in which most escapes were found.
"""

from __future__ import annotations

import platform
import struct

# Names as in the kernel's tables, numbers of x86-64 and of the generic table that aarch64 uses.
_DENIED = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "name_to_handle_at": (303, 264),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "clock_adjtime": (305, 266),
    "adjtimex": (159, 171),
    "syslog": (103, 116),
    "acct": (163, 89),
    "quotactl": (179, 60),
    "vhangup": (153, 58),
    "personality": (135, 92),
}
_ARCHITECTURES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_X32_BIT = 0x40000000
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _KILL, _EPERM, _ENOSYS = 0x7FFF0000, 0x80000000, 0x00050001, 0x00050026
_NUMBER_AT, _ARCHITECTURE_AT, _FIRST_ARGUMENT_AT = 0, 4, 16
_CLONE = (56, 220)
_CLONE3 = 435
_IOCTL = (16, 29)
_SECOND_ARGUMENT_AT = 24
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C
_NEW_NAMESPACES = 0x7E020080
"""CLONE_NEW*: user, pid, net, mount, ipc, uts, cgroup and time."""
_JUMP_SET = 0x45


def supported() -> bool:
    """Tell whether the filter is known for this machine's kind of processor."""
    return platform.machine() in _ARCHITECTURES


def program() -> bytes:
    """Return the filter for this machine. Raises: KeyError where `supported` says no."""
    column, architecture = _ARCHITECTURES[platform.machine()]
    checks = [
        # Another table of system calls has other numbers: 32-bit code could go around everything below.
        _instruction(_LOAD, _ARCHITECTURE_AT),
        _instruction(_JUMP_EQUAL, architecture, if_true=1),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NUMBER_AT),
        _instruction(_JUMP_AT_LEAST, _X32_BIT, if_false=1),
        _instruction(_RETURN, _EPERM),
        # clone3 hides its flags behind a pointer; told that there is none, libraries fall back to clone.
        *_refuse(_CLONE3, _ENOSYS),
    ]
    for numbers in _DENIED.values():
        checks += _refuse(numbers[column], _EPERM)
    checks += _refuse_flags(_CLONE[column], _NEW_NAMESPACES)
    for request in (_TIOCSTI, _TIOCLINUX):  # these type into the terminal of whoever started it all
        checks += _refuse_request(_IOCTL[column], request)
    return b"".join([*checks, _instruction(_RETURN, _ALLOW)])


def _instruction(code: int, value: int, *, if_true: int = 0, if_false: int = 0) -> bytes:
    """Return one instruction; the jumps count instructions after the next one."""
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _refuse(number: int, how: int) -> list[bytes]:
    return [_instruction(_JUMP_EQUAL, number, if_false=1), _instruction(_RETURN, how)]


def _refuse_flags(number: int, flags: int) -> list[bytes]:
    """Refuse a call whose first argument has one of the flags; the number is in the accumulator before and after."""
    return [
        _instruction(_JUMP_EQUAL, number, if_false=4),
        _instruction(_LOAD, _FIRST_ARGUMENT_AT),
        _instruction(_JUMP_SET, flags, if_false=1),
        _instruction(_RETURN, _EPERM),
        _instruction(_LOAD, _NUMBER_AT),
    ]


def _refuse_request(number: int, request: int) -> list[bytes]:
    return [
        _instruction(_JUMP_EQUAL, number, if_false=4),
        _instruction(_LOAD, _SECOND_ARGUMENT_AT),
        _instruction(_JUMP_EQUAL, request, if_false=1),
        _instruction(_RETURN, _EPERM),
        _instruction(_LOAD, _NUMBER_AT),
    ]
