"""What an application does with three databases, through whatever lies between: real drivers, real
values. Prints what came back as JSON; every value that it sends or reads has SECRET in it.

  database_client.py postgresql|tls|mariadb|redis HOST PORT

Or serves HTTP, asking PostgreSQL and Redis for each request, over connections that its threads keep:

  database_client.py serve POSTGRES_HOST REDIS_HOST
"""
import ctypes
import hashlib
import json
import os
import sys
import threading

SECRET = "geheim4711"
LARGE = SECRET.encode() + os.urandom(3 << 20)


def postgresql(host, port):
    import psycopg2
    connection = psycopg2.connect(host=host, port=port, user="weir", password=SECRET, dbname="shop",
                                  sslmode="disable", options="-c client_min_messages=error")
    connection.autocommit = True
    cursor = connection.cursor()
    result = {}
    cursor.execute("CREATE TABLE customers (id serial PRIMARY KEY, name text, photo bytea)")
    cursor.execute("INSERT INTO customers (name) VALUES (%s), (%s)", (SECRET + "1", SECRET + "2"))
    result["inserted"] = cursor.rowcount
    cursor.execute(f"SELECT name FROM customers WHERE name LIKE '{SECRET}%' ORDER BY id")
    result["names"] = [name for name, in cursor.fetchall()]
    cursor.execute("UPDATE customers SET photo = %s WHERE id = 1", (LARGE,))
    cursor.execute("SELECT photo FROM customers WHERE id = 1")
    result["whole"] = hashlib.sha256(bytes(cursor.fetchone()[0])).digest() == hashlib.sha256(LARGE).digest()
    for sql in (f"SELECT 1 FROM missing WHERE name = '{SECRET}'",
                f"INSERT INTO customers (id, name) VALUES (1, '{SECRET}')"):
        try:
            cursor.execute(sql)
        except psycopg2.Error as error:
            result.setdefault("errors", []).append(error.pgcode)
    connection.autocommit = False
    cursor.execute("DELETE FROM customers WHERE name = %s", (SECRET + "2",))
    connection.rollback()
    with open(os.devnull, "w") as sink:
        cursor.copy_expert("COPY customers (name) TO STDOUT", sink)
    connection.commit()
    connection.close()
    return result


def tls(host, port):
    import psycopg2
    connection = psycopg2.connect(host=host, port=port, user="weir", password=SECRET, dbname="shop", sslmode="require")
    cursor = connection.cursor()
    cursor.execute("SELECT version(), ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    return {"encrypted": cursor.fetchone()[1]}


def mariadb_prepared(host, port):
    """Connector/C's binary protocol: prepared once, executed three times."""
    library = ctypes.CDLL("libmariadb.so.3")
    for name in ("mysql_init", "mysql_real_connect", "mysql_stmt_init"):
        getattr(library, name).restype = ctypes.c_void_p
    library.mysql_error.restype = ctypes.c_char_p
    library.mysql_stmt_num_rows.restype = ctypes.c_ulonglong
    handle = ctypes.c_void_p(library.mysql_init(None))
    if not library.mysql_real_connect(handle, host.encode(), b"weir", SECRET.encode(), b"shop", int(port), None,
                                      ctypes.c_ulong(0)):
        raise SystemExit(f"mysql_real_connect: {library.mysql_error(handle)}")
    statement = ctypes.c_void_p(library.mysql_stmt_init(handle))
    sql = f"SELECT name FROM customers WHERE name LIKE '{SECRET}%'".encode()
    rows = []
    if library.mysql_stmt_prepare(statement, sql, ctypes.c_ulong(len(sql))):
        raise SystemExit("mysql_stmt_prepare")
    for _ in range(3):
        if library.mysql_stmt_execute(statement) or library.mysql_stmt_store_result(statement):
            raise SystemExit("mysql_stmt_execute")
        rows.append(library.mysql_stmt_num_rows(statement))
    bad = f"SELEC '{SECRET}'".encode()
    failed = library.mysql_stmt_prepare(statement, bad, ctypes.c_ulong(len(bad))) != 0
    library.mysql_close(handle)
    return {"rows": rows, "failed": failed}


def mariadb(host, port):
    import pymysql
    connection = pymysql.connect(host=host, port=int(port), user="weir", password=SECRET, database="shop",
                                 autocommit=True, max_allowed_packet=64 << 20, local_infile=True)
    cursor = connection.cursor()
    result = {}
    cursor.execute("CREATE TABLE customers (id int PRIMARY KEY AUTO_INCREMENT, name text, photo longblob)")
    result["inserted"] = cursor.execute("INSERT INTO customers (name) VALUES (%s), (%s)", (SECRET + "1", SECRET + "2"))
    cursor.execute(f'SELECT name FROM customers WHERE name LIKE "{SECRET}%" ORDER BY id')
    result["names"] = [name for name, in cursor.fetchall()]
    cursor.execute("UPDATE customers SET photo = %s WHERE id = 1", (LARGE,))
    cursor.execute("SELECT photo FROM customers WHERE id = 1")
    result["whole"] = cursor.fetchone()[0] == LARGE
    for sql in (f"SELECT 1 FROM missing WHERE name = '{SECRET}'",
                f"INSERT INTO customers (id, name) VALUES (1, '{SECRET}')"):
        try:
            cursor.execute(sql)
        except pymysql.MySQLError as error:
            result.setdefault("errors", []).append(error.args[0])
    path = os.path.join(os.environ["SCRATCH"], SECRET)
    with open(path, "w") as file:
        file.writelines(f"{n}\t{SECRET}{n}\n" for n in range(100, 1100))
    result["loaded"] = cursor.execute(f"LOAD DATA LOCAL INFILE '{path}' INTO TABLE customers (id, name)")
    connection.select_db("other")
    cursor.execute("SELECT 1")
    connection.ping(reconnect=False)
    connection.close()
    result["prepared"] = mariadb_prepared(host, port)
    return result


def redis(host, port):
    import redis as driver
    client = driver.Redis(host=host, port=int(port), db=3, single_connection_client=True)
    result = {"set": client.set(SECRET, LARGE), "whole": client.get(SECRET) == LARGE}
    try:
        client.lpush(SECRET, "x")
    except driver.ResponseError as error:
        result["error"] = str(error).split()[0]
    pipeline = client.pipeline(transaction=True)
    pipeline.incr(SECRET + "n").incr(SECRET + "n")
    result["transaction"] = pipeline.execute()
    pipeline = client.pipeline(transaction=False)
    pipeline.incr(SECRET + "n").get(SECRET + "n").delete(SECRET + "n")
    result["pipeline"] = [value.decode() if isinstance(value, bytes) else value for value in pipeline.execute()]
    result["script"] = client.eval("return redis.call('EXISTS', KEYS[1])", 1, SECRET)
    subscriber = driver.Redis(host=host, port=int(port)).pubsub()
    subscriber.subscribe(SECRET)
    subscriber.get_message(timeout=5)
    publisher = threading.Thread(target=client.publish, args=(SECRET, SECRET))
    publisher.start()
    message = subscriber.get_message(timeout=5)
    publisher.join()
    result["heard"] = message is not None and message["data"].decode() == SECRET
    client.close()
    return result


def serve(postgres_host, redis_host):
    import http.server
    import psycopg2
    import redis as driver
    kept = threading.local()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            # Opened by a request: what is called while none is open has no inferred parents.
            if not hasattr(kept, "postgres"):
                kept.postgres = psycopg2.connect(host=postgres_host, user="weir", password=SECRET, dbname="shop",
                                                 sslmode="disable")
                kept.postgres.autocommit = True
                kept.redis = driver.Redis(host=redis_host, single_connection_client=True)
            cursor = kept.postgres.cursor()
            cursor.execute(f"SELECT '{SECRET}' FROM pg_class LIMIT 1")
            kept.redis.get(SECRET)
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    http.server.ThreadingHTTPServer(("", 8080), Handler).serve_forever()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(sys.argv[2], sys.argv[3])
    work = {"postgresql": postgresql, "tls": tls, "mariadb": mariadb, "redis": redis}[sys.argv[1]]
    print(json.dumps(work(sys.argv[2], sys.argv[3])))
