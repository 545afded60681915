/* Connects a host socket whose connect was refused by socketcall(2) of 32-bit x86, whose
 * arguments are in memory. */
#include "i386.h"

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
