
# ---- the server ----------------------------------------------------------------------------------

def prepare(config):
    close_from(3)
    os.dup2(0, REQUESTS)
    os.dup2(1, REPORTS)
    null = os.open(os.devnull, os.O_RDWR)
    if null != NULL:
        os.dup2(null, NULL)
        os.close(null)
    for fd in (0, 1, 2):
        os.dup2(NULL, fd)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit(resource.RLIMIT_CORE, 0)
    if config["protected"]:
        control(38, 1)
        drop_privileges()
        filter_calls(config["judge_filters"])
    random.seed(0)
    gc.collect()
    gc.freeze()


def serve(config):
    requests = select.poll()
    requests.register(REQUESTS, select.POLLIN)
    while True:
        requests.poll()
        # Nothing to read is the end: a judge would see it too, after a fork.
        if not [1 for _, event in requests.poll(0) if event & select.POLLIN]:
            return
        pid = os.fork()
        if pid == 0:
            try:
                run_judge(config)
            except EOFError:
                os._exit(3)
            except BaseException as error:
                write_frame(REPORTS, {"ended": f"{type(error).__name__}: {error}"})
                os._exit(2)
            os._exit(0)
        status = await_judge(pid)
        if os.WIFSIGNALED(status):
            write_frame(REPORTS, {"signal": os.WTERMSIG(status)})
            return
        if status != 0:
            return


def await_judge(pid):
    """The judge's status; where the program that asks is gone, so is the judge."""
    try:
        judge = os.pidfd_open(pid)
    except (AttributeError, OSError):
        return os.waitpid(pid, 0)[1]
    poller = select.poll()
    poller.register(judge, select.POLLIN)
    poller.register(REQUESTS, 0)
    while True:
        ready = dict(poller.poll())
        if judge in ready:
            os.close(judge)
            return os.waitpid(pid, 0)[1]
        if ready.get(REQUESTS, 0) & (select.POLLHUP | select.POLLERR):
            os._exit(0)


def main():
    config = json.loads(sys.argv[1])
    reports = 1
    try:
        prepare(config)
        reports = REPORTS
        write_frame(reports, {"ready": True})
        serve(config)
    except BaseException as error:
        write_frame(reports, {"cannot": f"{type(error).__name__}: {error}"})
        os._exit(1)
    os._exit(0)


main()
