/* Calls of 32-bit x86. */

#ifndef I386_H
#define I386_H

#include "attack.h"

/* A call of 32-bit x86 from a 64-bit program; pointers must be below 4 GiB. */
static long i386(long number, long b, long c, long d) {
#ifdef __x86_64__
    long result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(number), "b"(b), "c"(c), "d"(d)
                     : "memory", "r8", "r9", "r10", "r11");
    return (int)result;
#else
    (void)number, (void)b, (void)c, (void)d;
    return -ENOSYS;
#endif
}

#ifndef MAP_32BIT
#define MAP_32BIT 0
#endif

static void *low(size_t size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT;
    void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (at == MAP_FAILED) could_not("mmap");
    return at;
}

#endif
