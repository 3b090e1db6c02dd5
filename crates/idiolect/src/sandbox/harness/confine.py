
# ---- confinement ---------------------------------------------------------------------------------

LIBC = ctypes.CDLL(None, use_errno=True)


def control(*args):
    if LIBC.prctl(*[ctypes.c_ulong(arg) for arg in args], *[ctypes.c_ulong(0)] * (5 - len(args))) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def die_with_parent():
    if LINUX:
        parent = os.getppid()
        control(1, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)


def hide():
    """No other process reads this one's memory."""
    if LINUX:
        control(4, 0)


def limit(which, value, hard=None):
    try:
        resource.setrlimit(which, (value, hard or value))
    except (ValueError, OSError):
        # A lower limit is in force already, or the system has none of this kind.
        pass


def drop_privileges():
    """No capability, though the user be root."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if LIBC.capset(header, (ctypes.c_uint32 * 6)()) != 0:
        raise OSError(ctypes.get_errno(), "capset")


class Filter(ctypes.Structure):
    """A program of the kernel's, as seccomp takes it."""

    _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    def __init__(self, text):
        self.kept = ctypes.create_string_buffer(bytes.fromhex(text), len(text) // 2)
        super().__init__(len(text) // 16, ctypes.addressof(self.kept))


def filter_calls(filters):
    """System calls that the filters do not allow fail, for good."""
    for filter in map(Filter, filters):
        control(22, 2, ctypes.addressof(filter))


def close_from(first, last=(1 << 32) - 1):
    """Closes descriptors, whatever the caller had open."""
    # `close_range` has the same number on every processor.
    if LINUX and LIBC.syscall(*[ctypes.c_ulong(arg) for arg in (436, first, last, 0)]) == 0:
        return
    for fd in [int(name) for name in os.listdir("/dev/fd")]:
        if first <= fd <= last:
            try:
                os.close(fd)
            except OSError:
                pass  # that of the listing itself


# ---- the number of threads -----------------------------------------------------------------------

# The kernel asks the judge about each call that makes a thread, so that no way of making one evades the
# count. Processes of its own a candidate cannot make at all.
MAX_THREADS = 256
NOTICE, ANSWER = 0xC0502100, 0xC0182101  # requests of ioctl; 80 and 24 bytes
CONTINUE = 1


def hand_over_threads(config, counter):
    """In the candidate: makes the judge the one to ask. Where the kernel has another to ask already, there
    are no threads."""
    ask = Filter(config["thread_filter"])
    listener = LIBC.syscall(*[ctypes.c_ulong(arg) for arg in (config["seccomp_call"], 1, 8, ctypes.addressof(ask))])
    if listener < 0:
        filter_calls([config["no_thread_filter"]])
        return
    counter.sendmsg([b"t"], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, struct.pack("i", listener))])


class Threads:
    """In the judge: lets a candidate make so many threads, and no more."""

    def __init__(self, counter):
        self.counter, self.listener, self.left = counter, None, MAX_THREADS
        if counter:
            counter.setblocking(False)

    def register(self, poller):
        if self.counter:
            self.take()
        if self.counter:
            poller.register(self.counter.fileno(), select.POLLIN)
        if self.listener is not None:
            poller.register(self.listener, select.POLLIN)

    def answer(self, ready, poller):
        if self.counter and self.counter.fileno() in ready:
            poller.unregister(self.counter.fileno())
            self.take()
            if self.listener is not None:
                poller.register(self.listener, select.POLLIN)
        elif self.listener in ready and ready[self.listener] & select.POLLIN:
            self.decide()
        elif self.listener in ready:
            # The candidate is gone.
            poller.unregister(self.listener)
            os.close(self.listener)
            self.listener = None

    def take(self):
        """Receives the descriptor at which the kernel asks, if the candidate has sent it."""
        try:
            _, parts, _, _ = self.counter.recvmsg(1, _socket.CMSG_LEN(4))
        except BlockingIOError:
            return
        for _, _, data in parts:
            self.listener, = struct.unpack("i", data)
        self.counter.close()
        self.counter = None

    def decide(self):
        notice = bytearray(80)
        try:
            fcntl.ioctl(self.listener, NOTICE, notice)
            more = self.left > 0
            self.left -= more
            error = 0 if more else -errno.EAGAIN
            fcntl.ioctl(self.listener, ANSWER, struct.pack("=8sqiI", bytes(notice[:8]), 0, error, CONTINUE * more))
        except OSError:
            pass  # who asked is gone
