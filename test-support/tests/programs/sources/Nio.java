import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** A web server and a client of one, on selectors. */
public class Nio {
    public static void main(String[] args) throws Exception {
        if (args.length == 1) {
            serve(Integer.parseInt(args[0]));
        }
        int port = Integer.parseInt(args[2]);
        for (String host : List.of(args[0], args[1])) {
            select(new InetSocketAddress(host, port), 20, false);
            select(new InetSocketAddress(host, port), 20, true);
            http(host.contains(":") ? "[" + host + "]" : host, port, 20);
        }
        System.exit(0);
    }

    /** Connections that are in the selector's epoll before they are made, as Netty has them. */
    static void select(InetSocketAddress to, int count, boolean early) throws IOException {
        try (Selector selector = Selector.open()) {
            for (int i = 0; i < count; i++) {
                SocketChannel channel = SocketChannel.open();
                channel.configureBlocking(false);
                SelectionKey key = channel.register(selector, early ? SelectionKey.OP_CONNECT : 0);
                key.attach(new StringBuilder());
                if (early) {
                    // Interests reach the kernel at the next selection.
                    selector.selectNow();
                    selector.selectedKeys().clear();
                }
                boolean connected = channel.connect(to);
                key.interestOps(connected ? SelectionKey.OP_WRITE : SelectionKey.OP_CONNECT);
            }
            ByteBuffer buffer = ByteBuffer.allocate(4096);
            for (int open = count; open > 0; ) {
                if (selector.select(60_000) == 0) {
                    throw new IOException("nothing was selected");
                }
                for (SelectionKey key : selector.selectedKeys()) {
                    SocketChannel channel = (SocketChannel) key.channel();
                    if (key.isConnectable()) {
                        channel.finishConnect();
                        key.interestOps(SelectionKey.OP_WRITE);
                    } else if (key.isWritable()) {
                        channel.write(bytes("GET /who HTTP/1.0\r\n\r\n"));
                        key.interestOps(SelectionKey.OP_READ);
                    } else if (channel.read(buffer.clear()) >= 0) {
                        StringBuilder page = (StringBuilder) key.attachment();
                        page.append(StandardCharsets.UTF_8.decode(buffer.flip()));
                    } else {
                        System.out.print(key.attachment().toString().split("\r\n\r\n")[1]);
                        channel.close();
                        open--;
                    }
                }
                selector.selectedKeys().clear();
            }
        }
    }

    /** The library's own client, which keeps connections. */
    static void http(String host, int port, int count) throws Exception {
        HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build();
        URI uri = URI.create("http://" + host + ":" + port + "/who");
        var pages = new ArrayList<java.util.concurrent.CompletableFuture<HttpResponse<String>>>();
        for (int i = 0; i < count; i++) {
            HttpRequest request = HttpRequest.newBuilder(uri).build();
            pages.add(client.sendAsync(request, HttpResponse.BodyHandlers.ofString()));
        }
        for (var page : pages) {
            System.out.print(page.get().body());
        }
    }

    /** Pages say who asks; connections are kept. */
    static void serve(int port) throws IOException {
        Selector selector = Selector.open();
        ServerSocketChannel server = ServerSocketChannel.open();
        server.configureBlocking(false);
        server.bind(new InetSocketAddress("::", port));
        server.register(selector, SelectionKey.OP_ACCEPT);
        System.out.println("ready");
        ByteBuffer buffer = ByteBuffer.allocate(65536);
        while (true) {
            selector.select();
            for (SelectionKey key : selector.selectedKeys()) {
                if (key.isAcceptable()) {
                    SocketChannel channel = server.accept();
                    channel.configureBlocking(false);
                    var peer = (InetSocketAddress) channel.getRemoteAddress();
                    channel.register(selector, SelectionKey.OP_READ, peer.getAddress().getHostAddress());
                    continue;
                }
                SocketChannel channel = (SocketChannel) key.channel();
                try {
                    if (channel.read(buffer.clear()) < 0) {
                        channel.close();
                        continue;
                    }
                    // Requests are small: each comes in one piece.
                    String page = key.attachment() + "\n";
                    String head = "HTTP/1.1 200 OK\r\nContent-Length: " + page.length() + "\r\n\r\n";
                    channel.write(bytes(head + page));
                } catch (IOException reset) {
                    channel.close();
                }
            }
            selector.selectedKeys().clear();
        }
    }

    static ByteBuffer bytes(String text) {
        return ByteBuffer.wrap(text.getBytes(StandardCharsets.UTF_8));
    }
}
