"""Tries what a confined program must not be able to do; returns what it could."""
import _thread, ctypes, os, socket, sys, time

LIBC = ctypes.CDLL(None, use_errno=True)


def attempts():
    def call(name, *args):
        if getattr(LIBC, name)(*args) == -1:
            raise OSError(ctypes.get_errno(), name)

    def fork():
        if os.fork() == 0:
            os._exit(0)

    def threads():
        _thread.stack_size(32768)
        for _ in range(300):
            _thread.start_new_thread(time.sleep, (60,))

    def descriptors():
        for fd in [*range(3, 10), *range(12, 64), 255, 1023, 1024, 4095]:
            try:
                os.fstat(fd)
            except OSError:
                continue
            return
        raise OSError

    ways = {
        "read a file of the system": lambda: open("/etc/passwd").read(1),
        "read a process's environment": lambda: open("/proc/self/environ", "rb").read(1),
        "list the root folder": lambda: os.listdir("/"),
        "write a file": lambda: open("/tmp/idiolect-sandbox-trial", "w"),
        "make a folder": lambda: os.mkdir("/tmp/idiolect-sandbox-trial"),
        "follow a link": lambda: os.readlink("/proc/self/exe"),
        "change a file's mode": lambda: os.chmod(sys.executable or "/", 0o755),
        "open a socket": lambda: socket.socket(),
        "open a local socket": lambda: socket.socket(socket.AF_UNIX),
        "start a process": fork,
        "use a descriptor of its caller's": descriptors,
        "run a program": lambda: os.execv("/bin/true", ["true"]),
        "send a signal": lambda: os.kill(os.getppid(), 0),
        "trace a process": lambda: call("ptrace", 16, os.getppid(), 0, 0),
        "raise a limit": lambda: __import__("resource").setrlimit(0, (60, 60)),
        "share memory": lambda: call("shmget", 0, 4096, 0o1777),
        "start any number of threads": threads,
    }
    found = []
    for name, way in ways.items():
        try:
            way()
        except Exception:
            continue
        found.append(name)
    return found
