/* What every attack is built on: the addresses it was given, sockets in the states that attacks
 * begin with, and the report.
 *
 * An attack defines `attack()`, which is run in a process of its own for each address that it is
 * to reach. The line that it prints is its own word; what counts is what the harness sees. */

#ifndef ATTACK_H
#define ATTACK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wunused-function"

typedef union {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
    struct sockaddr_storage room;
} address;

static address to;        /* what is not to be reached */
static address remote;    /* a server outside, TCP and UDP, that may be reached */
static address closed;    /* a port there on which nobody listens */
static address silent;    /* an address that never answers */
static address published; /* the wildcard, with a port that is published; port 0 if none is */
static address own;       /* loopback, with a second one that is published there only */
static const char *token; /* what proves that it was this attack that came through */
static const char *path;  /* a UNIX socket of the host */
static int supervisor;    /* the supervisor's process id on the host */
static bool native;       /* without a container, to show that the attack works at all */

static void attack(void);

/* Reports. An attack that returns has not reached its goal. */

static _Noreturn void end(const char *outcome, const char *why) {
    printf("{\"outcome\": \"%s\", \"why\": \"%s\"}\n", outcome, why);
    fflush(stdout);
    _exit(0);
}

static _Noreturn void reached(const char *how) { end("reached", how); }

/* With the errno of the call that failed. */
static _Noreturn void could_not(const char *call) {
    char why[200];
    const char *name = strerrorname_np(errno);
    snprintf(why, sizeof why, "%s: %s", call, name ? name : "?");
    end("could not try", why);
}

static int must(int result, const char *call) {
    if (result < 0) could_not(call);
    return result;
}

/* Lets the harness do its part. */
static void turn(void) {
    char byte;
    printf("{\"outcome\": \"hold\"}\n");
    fflush(stdout);
    if (read(0, &byte, 1) < 0) could_not("read");
}

/* Lets the harness look at the host while this process holds what it has. */
static _Noreturn void hold(void) {
    turn();
    reached("it stood");
}

/* Addresses. */

static socklen_t length(const address *a) {
    return a->any.sa_family == AF_INET6 ? sizeof a->v6 : sizeof a->v4;
}

static int family(void) { return to.any.sa_family; }

static void set_port(address *a, int port) {
    if (a->any.sa_family == AF_INET6) a->v6.sin6_port = htons(port);
    else a->v4.sin_port = htons(port);
}

static address parsed(const char *text) {
    address a = {0};
    char host[64] = {0};
    const char *colon = strrchr(text, ':');
    if (*text == '[') {
        memcpy(host, text + 1, colon - text - 2);
        a.v6.sin6_family = AF_INET6;
        inet_pton(AF_INET6, host, &a.v6.sin6_addr);
    } else {
        memcpy(host, text, colon - text);
        a.v4.sin_family = AF_INET;
        inet_pton(AF_INET, host, &a.v4.sin_addr);
    }
    set_port(&a, atoi(colon + 1));
    return a;
}

static address wildcard(int port) {
    address a = {0};
    a.any.sa_family = family();
    set_port(&a, port);
    return a;
}

static const struct sockaddr unspec_address = {.sa_family = AF_UNSPEC};

/* Sockets. */

static int fresh(int type) { return must(socket(family(), type | SOCK_CLOEXEC, 0), "socket"); }

static void set_blocking(int fd, bool on) {
    int flags = fcntl(fd, F_GETFL);
    fcntl(fd, F_SETFL, on ? flags & ~O_NONBLOCK : flags | O_NONBLOCK);
}

static bool writable(int fd, int milliseconds) {
    struct pollfd one = {.fd = fd, .events = POLLOUT};
    return poll(&one, 1, milliseconds) > 0;
}

static int error_of(int fd) {
    int error = 0;
    socklen_t len = sizeof error;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len);
    return error;
}

/* Connected to the server outside: a socket of the host, where those are given out. */
static int connected(int type) {
    int fd = fresh(type);
    must(connect(fd, &remote.any, length(&remote)), "connect to a server that may be reached");
    return fd;
}

/* A TCP socket of the host without a connection: it was installed before it was refused. */
static int refused(void) {
    int fd = fresh(SOCK_STREAM | SOCK_NONBLOCK);
    if (connect(fd, &closed.any, length(&closed)) == 0 || errno != EINPROGRESS)
        could_not("connect to a closed port");
    writable(fd, 1000);
    errno = error_of(fd);
    if (errno != ECONNREFUSED) could_not("connect to a closed port");
    /* The next call says that it failed as well; the one after that is free to connect. */
    connect(fd, &closed.any, length(&closed));
    set_blocking(fd, true);
    return fd;
}

static int unspec(int fd) { return connect(fd, &unspec_address, sizeof unspec_address); }

/* Duplicates where the supervisor cannot exchange them: in a message that nobody has received. */

static int stash = -1;

static void put_by(int fd) {
    int pair[2];
    must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), "socketpair");
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof fd)]; } control = {0};
    struct iovec byte = {.iov_base = "", .iov_len = 1};
    struct msghdr message = {.msg_iov = &byte, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof fd), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(&control.header), &fd, sizeof fd);
    must(sendmsg(pair[0], &message, 0), "sendmsg of a descriptor");
    stash = pair[1];
}

/* One more duplicate of it, as often as is wanted. */
static int fetched(void) {
    int fd = -1;
    char byte;
    union { struct cmsghdr header; char room[CMSG_SPACE(sizeof fd)]; } control = {0};
    struct iovec room = {.iov_base = &byte, .iov_len = 1};
    struct msghdr message = {.msg_iov = &room, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    must(recvmsg(stash, &message, MSG_PEEK), "recvmsg of a descriptor");
    memcpy(&fd, CMSG_DATA(&control.header), sizeof fd);
    return must(fd, "a descriptor in the message");
}

/* A duplicate of a host socket whose connection was dissolved. */
static int dissolved(int type) {
    int fd = connected(type);
    put_by(fd);
    must(unspec(fd), "connect(AF_UNSPEC)");
    close(fd);
    return fetched();
}

/* Every option that chooses a device, for another one or for none. */
static void unpin(int fd) {
    int zero = 0, one = 1, network_one = htonl(1);
    struct in6_pktinfo by = {.ipi6_ifindex = 1};
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "", 0);
    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3);
    setsockopt(fd, SOL_SOCKET, 62 /* SO_BINDTOIFINDEX */, &zero, sizeof zero);
    setsockopt(fd, SOL_SOCKET, 62, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, 50 /* IP_UNICAST_IF */, &network_one, sizeof network_one);
    setsockopt(fd, IPPROTO_IPV6, 76 /* IPV6_UNICAST_IF */, &network_one, sizeof network_one);
    setsockopt(fd, IPPROTO_IPV6, IPV6_PKTINFO, &by, sizeof by);
    setsockopt(fd, SOL_SOCKET, SO_DONTROUTE, &one, sizeof one);
}

/* A TCP socket that listens on the published port, and shares it if asked to again. */
static int listener(void) {
    int fd = fresh(SOCK_STREAM), one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(fd, &published.any, length(&published)), "bind to a published port");
    must(listen(fd, 8), "listen on a published port");
    return fd;
}

static int own_server;

/* A connection to a published listener, from inside; `accepted` is its other end. */
static int own_connection(int *accepted) {
    int server = own_server = fresh(SOCK_STREAM), client = fresh(SOCK_STREAM), one = 1;
    address any = wildcard(0);
    set_port(&any, family() == AF_INET6 ? ntohs(own.v6.sin6_port) : ntohs(own.v4.sin_port));
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    must(bind(server, &any.any, length(&any)), "bind to a published port");
    must(listen(server, 8), "listen on a published port");
    must(connect(client, &own.any, length(&own)), "connect to a port of one's own");
    *accepted = must(accept(server, NULL, NULL), "accept");
    return client;
}

static int published_datagrams(void) {
    int fd = fresh(SOCK_DGRAM);
    must(bind(fd, &published.any, length(&published)), "bind to a published port");
    return fd;
}

/* Proof. */

/* The connection stands: tells the token. It leaves no port in TIME_WAIT behind, which the next
 * attack may need. */
static void tell(int fd) {
    struct linger none = {.l_onoff = 1};
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &none, sizeof none);
    if (send(fd, token, strlen(token), MSG_NOSIGNAL) > 0) reached("connected");
}

/* A connection was begun, without blocking: tells if it comes to stand. */
static void await(int fd) {
    if (writable(fd, 100) && !error_of(fd)) tell(fd);
}

/* Connects and tells, if it can. Without blocking: what a pin keeps from arriving takes minutes
 * to fail. */
static void reach(int fd) {
    set_blocking(fd, false);
    int result = connect(fd, &to.any, length(&to));
    if (result == 0) tell(fd);
    if (errno == EINPROGRESS) await(fd);
}

/* Sends with MSG_FASTOPEN, which connects. */
static void reach_by_fastopen(int fd) {
    int flags = MSG_FASTOPEN | MSG_NOSIGNAL;
    set_blocking(fd, false);
    if (sendto(fd, token, strlen(token), flags, &to.any, length(&to)) > 0) reached("sent");
    if (errno == EINPROGRESS) await(fd);
}

/* A datagram was sent from this socket: shows that answers come, by sending the answer back. */
static bool answered(int fd) {
    char answer[64];
    struct timeval patience = {.tv_usec = 50000};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t len = recv(fd, answer, sizeof answer, 0);
    if (len <= 0) return false;
    return sendto(fd, answer, len, 0, &to.any, length(&to)) == len;
}

/* Sends a datagram there, and waits for the answer. */
static void reach_by_datagram(int fd) {
    if (sendto(fd, token, strlen(token), 0, &to.any, length(&to)) < 0) return;
    if (answered(fd)) reached("a datagram, and its answer");
}

/* Connects a UDP socket there, and sends. */
static void reach_by_connected_datagram(int fd) {
    if (connect(fd, &to.any, length(&to)) < 0 || send(fd, token, strlen(token), 0) < 0) return;
    if (answered(fd)) reached("a datagram, and its answer");
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static bool connected_to(int fd, const address *a) {
    address peer = {0};
    socklen_t len = sizeof peer;
    return getpeername(fd, &peer.any, &len) == 0 && !memcmp(&peer, a, length(a));
}

static bool listens(int fd) {
    int on = 0;
    socklen_t len = sizeof on;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &len) == 0 && on;
}

/* Races. */

/* How long one may be tried, in seconds. */
#define RACE 0.7

static int contested; /* the descriptor number that two sockets take turns at */
static int decoy;     /* one of them, which is harmless */
static int host;      /* the other, which is of the host */
static volatile bool over;

/* The host socket anew: where the supervisor saw it, it has taken it away at every number. */
static void again_at(int number) {
    int fd = fetched();
    dup2(fd, number);
    close(fd);
}

static void *exchange(void *unused) {
    (void)unused;
    while (!over) {
        dup2(decoy, contested);
        /* As long as the supervisor looks, and a little longer each time. */
        for (volatile int wait = rand() % 4000; wait > 0; wait--) {}
        dup2(host, contested);
        for (volatile int wait = rand() % 4000; wait > 0; wait--) {}
    }
    return NULL;
}

/* Makes `call` on the contested number until `won`, or until the time is over. */
static bool race(int harmless, int of_host, void (*call)(int), bool (*won)(void)) {
    decoy = harmless, host = of_host;
    put_by(host);
    contested = must(dup(decoy), "dup");
    pthread_t other;
    over = false;
    pthread_create(&other, NULL, exchange, NULL);
    double limit = now() + RACE;
    bool result = false;
    for (;;) {
        again_at(host);
        if ((result = won()) || now() >= limit) break;
        for (int i = 0; i < 5; i++) call(contested);
    }
    over = true;
    pthread_join(other, NULL);
    return result;
}

static void argument(const char *word, const char *value) {
    static const struct { const char *word; address *at; } places[] = {
        {"remote", &remote}, {"closed", &closed}, {"silent", &silent}, {"own", &own},
    };
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        if (!strncmp(word, places[i].word, strlen(places[i].word))) {
            /* `remote4=` and `remote6=`: that of the family of `to`. */
            if ((word[strlen(places[i].word)] == '6') == (family() == AF_INET6))
                *places[i].at = parsed(value);
            return;
        }
    if (!strcmp(word, "token")) token = value;
    else if (!strcmp(word, "path")) path = value;
    else if (!strcmp(word, "port")) published = wildcard(atoi(value));
    else if (!strcmp(word, "supervisor")) supervisor = atoi(value);
    else if (!strcmp(word, "native")) native = true;
}

static char *program, *target;

int main(int argc, char **argv) {
    program = argv[0];
    for (int i = 1; i < argc; i++) {
        if (strncmp(argv[i], "to=", 3)) continue;
        pid_t child = fork();
        if (child == 0) {
            target = argv[i];
            to = parsed(target + 3);
            for (int j = 1; j < argc; j++) {
                char *word = strdup(argv[j]), *value = strchr(word, '=');
                if (!value) continue;
                *value++ = 0;
                argument(word, value);
            }
            alarm(15);
            attack();
            end("not reached", "");
        }
        int status = 0;
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
        if (WIFSIGNALED(status))
            printf("{\"outcome\": \"killed\", \"why\": \"%s\"}\n", sigabbrev_np(WTERMSIG(status)));
        fflush(stdout);
    }
    return 0;
}

#endif
