// Servers in Java: GET /r/ID calls /u/ID upstream. KIND is threads (a thread for each
// connection, as a servlet container's blocking connector) or httpserver (com.sun.net).
import com.sun.net.httpserver.HttpServer;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URL;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

public class App {
  static final String UPSTREAM = "http://" + System.getenv("UPSTREAM");

  static byte[] call(String path) throws IOException {
    HttpURLConnection connection = (HttpURLConnection) new URL(UPSTREAM + path).openConnection();
    if (!"1".equals(System.getenv("POOLED"))) {
      connection.setRequestProperty("Connection", "close");
    }
    try (InputStream body = connection.getInputStream()) {
      return body.readAllBytes();
    }
  }

  static byte[] serve(String target) throws IOException {
    if (target.equals("/background")) {
      Thread thread = new Thread(() -> {
        try {
          for (int n = 0; ; n++) {
            call("/u/background-" + n);
            Thread.sleep(20);
          }
        } catch (Exception end) {
          return;
        }
      });
      thread.setDaemon(true);
      thread.start();
      return new byte[] {'s'};
    }
    String path = target.replace("/r/", "/u/");
    int query = path.indexOf('?');
    return call(query < 0 ? path : path.substring(0, query));
  }

  static void onConnection(Socket socket) {
    try (socket) {
      BufferedReader in = new BufferedReader(new InputStreamReader(socket.getInputStream()));
      OutputStream out = socket.getOutputStream();
      for (String line = in.readLine(); line != null; line = in.readLine()) {
        String target = line.split(" ")[1];
        while (!line.isEmpty()) {
          line = in.readLine();
        }
        byte[] body = serve(target);
        byte[] head = ("HTTP/1.1 200 OK\r\nContent-Length: " + body.length + "\r\n\r\n").getBytes();
        byte[] all = new byte[head.length + body.length];
        System.arraycopy(head, 0, all, 0, head.length);
        System.arraycopy(body, 0, all, head.length, body.length);
        out.write(all);
      }
    } catch (IOException end) {
      return;
    }
  }

  public static void main(String[] arguments) throws IOException {
    ExecutorService threads = Executors.newCachedThreadPool();
    if ("httpserver".equals(System.getenv("KIND"))) {
      HttpServer server = HttpServer.create(new InetSocketAddress("0.0.0.0", 8080), 1024);
      server.createContext("/", exchange -> {
        byte[] body = serve(exchange.getRequestURI().toString());
        exchange.sendResponseHeaders(200, body.length);
        try (OutputStream out = exchange.getResponseBody()) {
          out.write(body);
        }
      });
      server.setExecutor(threads);
      server.start();
      return;
    }
    try (ServerSocket listener = new ServerSocket()) {
      listener.bind(new InetSocketAddress("0.0.0.0", 8080), 1024);
      while (true) {
        Socket socket = listener.accept();
        threads.execute(() -> onConnection(socket));
      }
    }
  }
}
