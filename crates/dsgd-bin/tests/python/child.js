// A line through 1,000 points: a child of dsgd without Python (docs/child.md).
const fs = require("fs"), net = require("net");
const x = i => -1 + 2 * i / 999, y = i => 3 * x(i) - 2;
let params, gradient;
const orders = {
  load: () => ({
    task: "Line", python: "none", executable: "node", frameworks: { JavaScript: process.version },
    tensors: [{ name: "line", shape: [2] }], examples: 1000, validation_examples: 100, batch_size: 10, divisible: true,
  }),
  share: order => { params = fs.openSync(order.params, "r+"); gradient = fs.openSync(order.gradient, "r+"); return {}; },
  init: () => { fs.writeSync(params, Buffer.alloc(8), 0, 8, 0); return {}; },
  train: order => {
    const [loss, g] = computed(order.examples);
    fs.writeSync(gradient, Buffer.from(new Float32Array(g).buffer), 0, 8, 0);
    return { loss, count: order.examples.length };
  },
  evaluate: order => ({ loss: computed(order.examples)[0], count: order.examples.length }),
};
function computed(examples) {
  const bytes = Buffer.alloc(8);
  fs.readSync(params, bytes, 0, 8, 0);
  const [a, b] = [bytes.readFloatLE(0), bytes.readFloatLE(4)];
  let loss = 0, g = [0, 0];
  for (const i of examples) {
    const error = a * x(i) + b - y(i);
    loss += error * error / examples.length;
    g[0] += 2 * error * x(i) / examples.length;
    g[1] += 2 * error / examples.length;
  }
  return [loss, g];
}
process.on("SIGINT", () => {}).on("SIGTERM", () => {});
const socket = new net.Socket({ fd: 0 });
let text = "";
socket.on("data", data => {
  text += data;
  for (let end; (end = text.indexOf("\n")) >= 0; text = text.slice(end + 1)) {
    const order = JSON.parse(text.slice(0, end));
    socket.write(JSON.stringify(orders[order.do](order)) + "\n");
  }
}).on("end", () => process.exit(0));
