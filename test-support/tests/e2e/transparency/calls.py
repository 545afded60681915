"""What calls say, one line each: the same natively and inside, if nobody can tell.

calls.py HOST ECHO-PORT SILENT CASE...; the port 1 of HOST is closed. Calls that Python makes again by
itself when a signal comes are made by way of ctypes.
"""

import ctypes, errno, os, select, signal, socket, struct, sys, threading, time

HOST, ECHO, SILENT = sys.argv[1], int(sys.argv[2]), (sys.argv[3], 9)
ECHO, CLOSED = (HOST, ECHO), (HOST, 1)
SECCOMP = {"x86_64": 317, "aarch64": 277}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)


def say(*words):
    print(*words, flush=True)


def name(result):
    return "ok" if result >= 0 else errno.errorcode[ctypes.get_errno()]


def connect(sock, to):
    """connect(2), once."""
    raw = struct.pack("=HH4s8x", socket.AF_INET, socket.htons(to[1]), socket.inet_aton(to[0]))
    return name(libc.connect(sock.fileno(), raw, len(raw)))


def call(function, *arguments):
    try:
        result = function(*arguments)
        return "ok" if result is None else result
    except OSError as error:
        return errno.errorcode[error.errno]


def tcp(blocking=True):
    sock = socket.socket()
    sock.setblocking(blocking)
    return sock


def echo(sock, text=b"hello"):
    sock.setblocking(True)
    return call(sock.sendall, text), call(sock.recv, 100)


def ready(sock):
    """poll, select and epoll."""
    poll = select.poll()
    poll.register(sock, select.POLLIN | select.POLLOUT | select.POLLRDHUP)
    polled = poll.poll(0)
    with select.epoll() as epoll:
        epoll.register(sock, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)
        told = [events for _, events in epoll.poll(0)]
    sets = [len(found) for found in select.select([sock], [sock], [sock], 0)]
    return [events for _, events in polled], told, sets


def writable(sock):
    return [len(found) for found in select.select([], [sock], [], 10)]


def error(sock):
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return errno.errorcode.get(number, number)


def on_alarm(restart):
    seen = []
    signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    signal.siginterrupt(signal.SIGALRM, not restart)
    return seen


def peer(sock):
    return call(sock.getpeername)


def interrupted():
    on_alarm(restart=False)
    sock = tcp()
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    say(connect(sock, SILENT))
    # The connection goes on.
    sock.setblocking(False)
    say(connect(sock, SILENT), peer(sock), ready(sock))
    sock = tcp()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 1, 0))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    say(connect(sock, SILENT))


def restarted():
    on_alarm(restart=True)
    sock = tcp()
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    signal.setitimer(signal.ITIMER_REAL, 0.2, 0.2)
    say(connect(sock, SILENT))
    signal.setitimer(signal.ITIMER_REAL, 0)


def restarted_limit():
    """With SO_SNDTIMEO a connect is not restarted, whatever the handler was installed with."""
    seen = on_alarm(restart=True)
    sock = tcp()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 1, 0))
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    say(connect(sock, SILENT), len(seen))


def device():
    sock = tcp()
    connect(sock, ECHO)
    say(sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16))


def stormed():
    """Timers that ring all the time: no connect fails, nor says that it was made before."""
    for restart in [True, False]:
        on_alarm(restart)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
        for _ in range(100):
            sock = tcp()
            said = connect(sock, ECHO)
            while said == "EINTR":
                said = connect(sock, ECHO)
            if said != "ok":
                say("connect", said)
            if echo(sock) != ("ok", b"hello"):
                say("echo")
            sock.close()
        signal.setitimer(signal.ITIMER_REAL, 0)
    say("done")


def stopped():
    """Stopped and continued in the middle."""
    for to in [ECHO, CLOSED]:
        child = os.fork()
        if child == 0:
            time.sleep(0.05)
            for _ in range(20):
                os.kill(os.getppid(), signal.SIGSTOP)
                time.sleep(0.002)
                os.kill(os.getppid(), signal.SIGCONT)
                time.sleep(0.002)
            os._exit(0)
        said, until = set(), time.monotonic() + 0.2
        while time.monotonic() < until:
            with tcp() as sock:
                said.add(connect(sock, to))
        os.waitpid(child, 0)
        say(said)


def in_threads():
    said = []
    def one(to):
        with tcp() as sock:
            said.append((to[1] == 1, connect(sock, to)))
    threads = [threading.Thread(target=one, args=(to,)) for to in [ECHO, CLOSED] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    say(sorted(said))


def in_progress():
    sock = tcp(False)
    say(connect(sock, ECHO), writable(sock), connect(sock, ECHO), connect(sock, ECHO))
    sock = tcp(False)
    say(connect(sock, ECHO), writable(sock), error(sock), connect(sock, CLOSED))
    sock = tcp(False)
    say(connect(sock, SILENT), connect(sock, SILENT), connect(sock, ECHO), peer(sock), ready(sock))
    # A later call waits, if it may.
    sock = tcp(False)
    say(connect(sock, ECHO))
    sock.setblocking(True)
    say(connect(sock, ECHO), connect(sock, ECHO), echo(sock))


def failed():
    sock = tcp()
    say(connect(sock, CLOSED), error(sock), peer(sock), ready(sock))
    say(connect(sock, CLOSED), connect(sock, ECHO), echo(sock))
    sock = tcp(False)
    say(connect(sock, CLOSED), writable(sock), ready(sock), error(sock), error(sock), ready(sock))
    say(connect(sock, ECHO), writable(sock), error(sock), echo(sock))
    # The error is told once, by whoever asks first.
    sock = tcp(False)
    say(connect(sock, CLOSED), writable(sock), connect(sock, CLOSED), writable(sock))
    sock = tcp(False)
    say(connect(sock, CLOSED), writable(sock), call(sock.send, b"x"), call(sock.recv, 1))


def at_each_step():
    sock = tcp()
    say(ready(sock), connect(sock, ECHO), ready(sock))
    sock.sendall(b"hello")
    select.select([sock], [], [], 10)
    say(ready(sock), sock.recv(100), ready(sock))
    say(call(sock.shutdown, socket.SHUT_WR), sock.recv(100), call(sock.send, b"x"))
    say(ready(sock), call(sock.shutdown, socket.SHUT_RD), ready(sock), peer(sock))


def half_closed():
    sock = tcp()
    say(connect(sock, ECHO), call(sock.shutdown, socket.SHUT_RD), call(sock.sendall, b"hello"))
    sock = tcp()
    say(connect(sock, ECHO), call(sock.sendall, b"bye"), call(sock.shutdown, socket.SHUT_WR))
    say(sock.recv(9), sock.recv(9), call(sock.shutdown, socket.SHUT_RDWR), peer(sock))


def fast_open():
    for blocking in [True, False]:
        for _ in range(2):
            sock = tcp(blocking)
            say(call(sock.setsockopt, socket.IPPROTO_TCP, 30, 1))
            say(connect(sock, ECHO), sock.getsockopt(socket.IPPROTO_TCP, 30))
            writable(sock)
            say(echo(sock), call(lambda: sock.getpeername() == ECHO))
    sock = tcp()
    sock.setsockopt(socket.IPPROTO_TCP, 30, 1)
    say(connect(sock, CLOSED), call(sock.send, b"x"))


def bound():
    with tcp() as sock:
        sock.bind(("", 0))
        port = sock.getsockname()[1]
        say(connect(sock, ECHO), sock.getsockname()[1] == port, echo(sock))
    with tcp() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", 27123))
        say(connect(sock, ECHO), sock.getsockname()[1], call(sock.bind, ("", 0)))
    # IP_BIND_ADDRESS_NO_PORT
    with tcp() as sock:
        sock.setsockopt(socket.IPPROTO_IP, 24, 1)
        sock.bind(("0.0.0.0", 0))
        say(sock.getsockname()[1], connect(sock, ECHO), echo(sock))


def free_bind():
    with tcp() as sock:
        # IP_FREEBIND
        sock.setsockopt(socket.IPPROTO_IP, 15, 1)
        say(connect(sock, ECHO), sock.getsockopt(socket.IPPROTO_IP, 15), echo(sock))
    with tcp() as sock:
        # IP_TRANSPARENT
        say(call(sock.setsockopt, socket.IPPROTO_IP, 19, 1), connect(sock, ECHO))


def undumpable():
    say(libc.prctl(4, 0), libc.prctl(3))
    sock = tcp()
    say(connect(sock, ECHO), echo(sock))
    sock = tcp(False)
    epoll = select.epoll()
    epoll.register(sock, select.EPOLLOUT)
    say(connect(sock, ECHO), [events for _, events in epoll.poll(10)])
    copy = sock.dup()
    say(connect(copy, ECHO), echo(copy), peer(sock) == peer(copy))


def filtered():
    """Under a filter of its own."""
    program = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    filters = struct.pack("@HP", 1, ctypes.addressof(buffer))
    say(libc.prctl(38, 1, 0, 0, 0), name(libc.syscall(SECCOMP, 1, 0, filters)))
    sock = tcp()
    say(connect(sock, ECHO), echo(sock), connect(tcp(), CLOSED))


def listening():
    """Under a filter with a listener of its own."""
    program = struct.pack("=HBBI", 6, 0, 0, 0x7FFF0000)
    buffer = ctypes.create_string_buffer(program)
    filters = struct.pack("@HP", 1, ctypes.addressof(buffer))
    libc.prctl(38, 1, 0, 0, 0)
    say(name(libc.syscall(SECCOMP, 1, 8, filters)))


def spawned():
    program = [sys.executable, __file__, *sys.argv[1:4], "half_closed", "in_progress"]
    for start in [lambda: os.posix_spawn(program[0], program, os.environ), lambda: forked(program)]:
        say(os.waitpid(start(), 0)[1])


def forked(program):
    child = os.fork()
    if child == 0:
        os.execv(program[0], program)
    return child


def executed():
    """Another program is executed while threads wait in connect."""
    for _ in range(3):
        threading.Thread(target=lambda: connect(tcp(), SILENT), daemon=True).start()
    time.sleep(0.1)
    sock = tcp(False)
    say(connect(sock, ECHO))
    os.set_inheritable(sock.fileno(), True)
    program = "import socket,sys,select\n" \
        "s=socket.socket(fileno=int(sys.argv[1])); select.select([],[s],[],10); s.setblocking(True)\n" \
        "s.sendall(b'hello'); print(s.recv(5), flush=True)"
    os.execv(sys.executable, [sys.executable, "-c", program, str(sock.fileno())])


for case in sys.argv[4:]:
    say(f"-- {case}")
    child = os.fork()
    if child == 0:
        globals()[case]()
        os._exit(0)
    say(os.waitpid(child, 0)[1])
