// Computations outside the page's thread. A worker runs the script of this page, without network access, in which
// app.js then serves messages in place of starting the page. If no worker can start, the page's own thread serves them.

import { ablation } from "./ablation.js";
import { relay } from "./relay.js";
import { trainer } from "./trainer.js";

// By name, a function of `send` that returns a function of the messages.
const SERVICES = { ablation, relay, trainer };

const inPage = typeof document !== "undefined";
const script = inPage ? document.currentScript?.textContent : null;

/** Whether this script runs in a worker; then messages are served from now on. */
export function servesAsWorker() {
  if (inPage || typeof postMessage !== "function") return false;
  const receivers = new Map(); // by channel
  self.onmessage = ({ data: { channel, service, message } }) => {
    if (!receivers.has(channel)) {
      const send = (answer, transfer) => postMessage({ channel, message: answer }, transfer);
      receivers.set(channel, SERVICES[service](send, { slice: 60 }));
    }
    receivers.get(channel)(message);
  };
  return true;
}

/** A worker of this page's script, with listeners by channel. */
class Host {
  channels = new Map(); // by number: {receive, fail}
  count = 0;

  constructor() {
    if (!script) throw new Error("the script of the page is unknown");
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    this.worker = new Worker(url);
    this.worker.onmessage = ({ data }) => this.channels.get(data.channel)?.receive(data.message);
    this.worker.onerror = (event) => {
      event.preventDefault();
      this.worker.terminate();
      for (const { fail } of [...this.channels.values()]) fail();
    };
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  }

  close(channel) {
    this.channels.delete(channel);
    if (!this.channels.size) this.worker.terminate();
  }
}

/** Start a service: {send(message), close(), host}. Its messages go to `onMessage`. With a host, in the same worker. */
export function connect(service, onMessage, { host = null } = {}) {
  let channel = 0;
  let local = null;
  let open = true;
  const pending = [];
  const deliver = (message) => open && onMessage(message);
  const serveHere = () => {
    host = null;
    const send = (message) => setTimeout(() => deliver(message));
    local = open ? SERVICES[service](send, { slice: 8 }) : null;
    for (const message of pending.splice(0)) local?.(message);
  };
  try {
    host ??= new Host();
    channel = ++host.count;
    const receive = (message) => {
      pending.length = 0; // it has started
      deliver(message);
    };
    host.channels.set(channel, { receive, fail: serveHere });
  } catch {
    serveHere();
  }
  return {
    get host() {
      return host;
    },
    send(message) {
      if (local) return local(message);
      pending.push(message);
      host.worker.postMessage({ channel, service, message });
    },
    close() {
      open = false;
      local?.({ stop: true });
      host?.channels.get(channel) && host.worker.postMessage({ channel, service, message: { stop: true } });
      host?.close(channel);
    },
  };
}
