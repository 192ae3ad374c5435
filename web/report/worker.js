// Computations outside the page's thread. A worker runs the script of this page, without network access, in which
// app.js then serves messages in place of starting the page. If no worker can start, the page's own thread serves them.

import { ablation } from "./ablation.js";
import { trainer } from "./trainer.js";

// By name, a function of `send` that returns a function of the messages.
const SERVICES = { ablation, trainer };

const inPage = typeof document !== "undefined";
const script = inPage ? document.currentScript?.textContent : null;

/** Whether this script runs in a worker; then messages are served from now on. */
export function servesAsWorker() {
  if (inPage || typeof postMessage !== "function") return false;
  let receive = null;
  self.onmessage = ({ data }) => {
    receive ??= SERVICES[data.service]((message) => postMessage(message), { slice: 60 });
    receive(data);
  };
  return true;
}

/** Start a service: {send(message), close()}. Its messages go to `onMessage`. */
export function connect(service, onMessage) {
  let worker = null;
  let local = null;
  let open = true;
  const pending = [];
  const deliver = (message) => open && onMessage(message);
  const serveHere = () => {
    worker?.terminate();
    worker = null;
    const send = (message) => setTimeout(() => deliver(message));
    local = open ? SERVICES[service](send, { slice: 8 }) : null;
    for (const message of pending.splice(0)) local?.(message);
  };
  try {
    if (!script) throw new Error("the script of the page is unknown");
    const url = URL.createObjectURL(new Blob([script], { type: "text/javascript" }));
    worker = new Worker(url);
    worker.onmessage = ({ data }) => {
      pending.length = 0; // it has started
      deliver(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      serveHere();
    };
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch {
    serveHere();
  }
  return {
    send(message) {
      const whole = { ...message, service };
      if (local) return local(whole);
      pending.push(whole);
      worker.postMessage(whole);
    },
    close() {
      open = false;
      local?.({ stop: true });
      worker?.terminate();
    },
  };
}
