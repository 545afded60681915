/* A source route. */

#ifndef ROUTE_H
#define ROUTE_H

#include "attack.h"

/* An IPv6 source route by way of `to`, wherever the packet goes in the end. */
struct route {
    uint8_t next, length, type, left, last, flags;
    uint16_t tag;
    struct in6_addr segments[2];
};

static struct route by_way_of(void) {
    struct route route = {.length = 4, .type = 4, .left = 1, .last = 1};
    route.segments[1] = to.v6.sin6_addr;
    return route;
}

#endif
