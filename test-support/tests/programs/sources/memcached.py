"""Sets and gets values of memcached, over TCP and over UDP."""
import socket
import sys

host, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])


def tell(tcp, line, end):
    tcp.sendall(line)
    got = b""
    while not got.endswith(end):
        part = tcp.recv(65536)
        assert part, "the connection was closed"
        got += part
    return got


family = socket.AF_INET6 if ":" in host else socket.AF_INET
for number in range(count):
    value = str(number).encode()
    with socket.create_connection((host, port), 60) as tcp:
        command = b"set key 0 0 %d\r\n%s\r\n" % (len(value), value)
        assert tell(tcp, command, b"STORED\r\n") == b"STORED\r\n"
        answer = b"VALUE key 0 %d\r\n%s\r\nEND\r\n" % (len(value), value)
        assert tell(tcp, b"get key\r\n", b"END\r\n") == answer
    with socket.socket(family, socket.SOCK_DGRAM) as udp:
        udp.settimeout(60)
        udp.connect((host, port))
        udp.send(b"\x00\x01\x00\x00\x00\x01\x00\x00get key\r\n")
        assert udp.recv(2048)[8:] == answer
print("ok")
