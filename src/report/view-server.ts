/**
 * Serves the page of a run, and keeps it up to date while the run goes on.
 *
 * Only this machine can ask: the server listens on 127.0.0.1, and answers no request that names another host, as a page
 * from elsewhere would whose name has been pointed here.
 */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { FoveaError, hasCode } from "../errors.js";
import { type RunReport, renderRunContent, renderRunReport } from "./run-report.js";

/** What the page is made from. */
export interface ViewSource {
  report(): Promise<RunReport>;
  /** Changes whenever the report does. */
  version(): Promise<string>;
}

/** A page that is served. */
export interface View {
  /** Where it is to be seen: `http://127.0.0.1:PORT/`. */
  readonly url: string;
  close(): Promise<void>;
}

/** Asks for news every two seconds and puts them in place; the page stays where it was scrolled to. */
const script = `let version;
setInterval(async () => {
  try {
    const answer = await fetch("content", { headers: version ? { "if-none-match": version } : {} });
    if (answer.status !== 200) return;
    version = answer.headers.get("etag");
    document.querySelector("main").innerHTML = await answer.text();
  } catch {}
}, 2000);
`;

const policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'";

/**
 * Serves a run's page until it is closed.
 *
 * @param port 0 for one that is free
 * @throws FoveaError `IO` when the port is taken
 */
export async function serveView(source: ViewSource, port = 0): Promise<View> {
  const server = createServer((request, response) => void answer(source, request, response));
  await listen(server, port);
  const { port: chosen } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${chosen}/`,
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  };
}

async function listen(server: Server, port: number): Promise<void> {
  try {
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject);
      server.listen(port, "127.0.0.1", resolve);
    });
  } catch (error) {
    if (!hasCode(error, "EADDRINUSE") && !hasCode(error, "EACCES")) throw error;
    const problem = hasCode(error, "EACCES") ? "permission was denied" : "another program uses it";
    throw new FoveaError("IO", `Expected to listen on port ${port} of 127.0.0.1 but ${problem}.`, { cause: error });
  }
}

async function answer(source: ViewSource, request: IncomingMessage, response: ServerResponse): Promise<void> {
  const reply = (status: number, type: string, body: string, etag?: string): void => {
    response.writeHead(status, {
      "content-type": `${type}; charset=utf-8`,
      "content-security-policy": policy,
      "cache-control": "no-cache",
      "x-content-type-options": "nosniff",
      ...(etag !== undefined && { etag }),
    });
    response.end(request.method === "HEAD" ? undefined : body);
  };
  try {
    const host = request.headers.host?.replace(/:\d+$/, "");
    if (host !== "127.0.0.1" && host !== "localhost") return reply(403, "text/plain", "Only for this machine.\n");
    if (request.method !== "GET" && request.method !== "HEAD") return reply(405, "text/plain", "Only to be read.\n");
    const etag = `"${await source.version()}"`;
    switch (request.url) {
      case "/":
        return reply(200, "text/html", renderRunReport(await source.report(), "live.js"));
      case "/live.js":
        return reply(200, "text/javascript", script);
      case "/content":
        return request.headers["if-none-match"] === etag
          ? reply(304, "text/html", "", etag)
          : reply(200, "text/html", renderRunContent(await source.report()), etag);
      default:
        return reply(404, "text/plain", "There is no such page.\n");
    }
  } catch (error) {
    reply(500, "text/plain", `${error instanceof Error ? error.message : error}\n`);
  }
}
