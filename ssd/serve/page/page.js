"use strict";
// Okabe and Ito's colours, as ssd.draw has them.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];
const LEAST = 0.05; // the service is asked once; the slider filters here
const CAMERA_WIDTH = 640;
const $ = (id) => document.getElementById(id);
const canvas = $("canvas");
let model = null, picture = null, result = null, stream = null, video = 0;
let moved = false; // until the slider is, each class has the threshold of the model
let token = new URLSearchParams(location.hash.slice(1)).get("token") || "";

async function ask(path, options = {}) {
  const headers = { ...(options.headers || {}), ...(token ? { Authorization: `Bearer ${token}` } : {}) };
  const answer = await fetch(path, { ...options, headers });
  if (!answer.ok) {
    if (answer.status === 401) $("door").hidden = false;
    const text = await answer.json().then((body) => body.error, () => answer.statusText);
    throw Object.assign(new Error(text), { status: answer.status });
  }
  return answer;
}

function say(text, error = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", error);
}

async function start() {
  model = await (await ask("/v1/model")).json();
  $("door").hidden = true;
  $("model").textContent = `${model.name}, ${model.precision}`;
  $("score").value = Math.min(...Object.values(model.thresholds));
  showLeast();
  const boxes = model.class_names.map((name) => {
    const label = document.createElement("label"), box = document.createElement("input");
    box.type = "checkbox"; box.checked = true; box.value = name;
    box.addEventListener("change", show);
    label.append(box, name);
    return label;
  });
  $("classes").replaceChildren($("classes").firstElementChild, ...boxes);
  const names = await (await ask("/v1/samples")).json();
  $("sample").replaceChildren($("sample").firstElementChild, ...names.map((name) => new Option(name, name)));
}

const chosen = () => [...document.querySelectorAll("#classes input:checked")].map((box) => box.value);

const least = (label) => moved ? Number($("score").value) : model.thresholds[label];

function showLeast() {
  if (!model) return;
  const all = model.class_names.map(least), [low, high] = [Math.min(...all), Math.max(...all)];
  $("score-text").textContent = low.toFixed(2) + (low < high ? ` to ${high.toFixed(2)}, by class` : "");
}

function kept() {
  const classes = new Set(chosen());
  return result ? result.detections.filter((one) => one.score >= least(one.label) && classes.has(one.label)) : [];
}

function paint(found) {
  const pen = canvas.getContext("2d");
  canvas.width = picture.width; canvas.height = picture.height; canvas.hidden = false;
  pen.drawImage(picture, 0, 0);
  const wide = Math.max(2, Math.round(Math.min(canvas.width, canvas.height) / 200));
  const size = Math.min(40, Math.max(11, Math.min(canvas.width, canvas.height) / 22));
  pen.lineWidth = wide; pen.font = `${size}px system-ui, sans-serif`; pen.textBaseline = "top";
  for (const one of [...found].reverse()) {
    const [left, top, right, bottom] = one.box_px;
    const colour = COLOURS[model.class_names.indexOf(one.label) % COLOURS.length];
    pen.strokeStyle = colour;
    pen.strokeRect(left, top, right - left, bottom - top);
    const text = `${one.label} ${one.score.toFixed(2)}`, room = pen.measureText(text).width + size / 2;
    const x = Math.max(0, Math.min(left, canvas.width - room)), y = top >= size * 1.3 ? top - size * 1.3 : top;
    pen.fillStyle = colour; pen.fillRect(x, y, room, size * 1.3);
    pen.fillStyle = "#000"; pen.fillText(text, x + size / 4, y + size * 0.15);
  }
}

function show() {
  showLeast();
  if (!picture || !result) return;
  const found = kept(), body = $("table").tBodies[0];
  paint(found);
  const words = found.length ? found.map((one) => one.label).join(", ") : "nothing";
  if (!stream) say(`Found ${words}.`);
  canvas.setAttribute("aria-label", `The picture with boxes: ${words}`);
  body.replaceChildren(...found.map((one) => {
    const row = document.createElement("tr");
    for (const text of [one.label, one.score.toFixed(2), one.box_px.map(Math.round).join(", ")])
      row.insertCell().textContent = text;
    return row;
  }));
  $("table").hidden = !found.length;
  $("saves").hidden = false;
}

async function detect(blob, image) {
  const answer = await ask(`/v1/detect?score=${LEAST}`, { method: "POST", body: blob });
  result = await answer.json();
  picture = image;
  show();
}

async function take(file, name) {
  stop();
  video += 1;
  for (const id of ["video", "video-saves", "progress"]) $(id).hidden = true;
  try {
    if (file.type.startsWith("video/")) return await takeVideo(file, video);
    say("Looking…");
    await detect(file, await createImageBitmap(file));
    result.source = name || file.name || "pasted";
  } catch (error) {
    say(error.status ? error.message : `${name || "this file"} is no picture that a browser can show`, true);
  }
}

async function takeVideo(file, number) {
  for (const id of ["canvas", "saves", "table"]) $(id).hidden = true;
  const bar = $("progress");
  bar.removeAttribute("value"); bar.hidden = false;
  say("Sending the video…");
  const query = new URLSearchParams({ classes: chosen().join(",") });
  if (moved) query.set("score", $("score").value);
  let job = await (await ask(`/v1/videos?${query}`, { method: "POST", body: file })).json();
  const place = `/v1/videos/${job.id}`;
  while (["waiting", "running"].includes(job.state)) {
    await new Promise((done) => setTimeout(done, 500));
    if (number !== video) return void ask(place, { method: "DELETE" }).catch(() => {});
    job = await (await ask(place)).json();
    if (job.total) { bar.max = job.total; bar.value = job.frames; }
    say(`${job.state}: ${job.frames} of ${job.total || "?"} frames`);
  }
  bar.hidden = true;
  if (job.state === "failed") return say(job.reason, true);
  for (const [id, end] of [["video-mp4", "mp4"], ["video-jsonl", "jsonl"]])
    $(id).href = URL.createObjectURL(await (await ask(`${place}/result.${end}`)).blob());
  $("video").src = $("video-mp4").href;
  $("video").hidden = $("video-saves").hidden = false;
  say(`Done: ${job.frames} frames.`);
}

async function camera() {
  if (stream) return stop();
  try {
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: CAMERA_WIDTH } });
  } catch (error) {
    return say(`No camera: ${error.message}`, true);
  }
  $("camera").setAttribute("aria-pressed", "true");
  $("camera").textContent = "Stop the camera";
  const film = document.createElement("video"), mine = stream;
  film.muted = true; film.playsInline = true; film.srcObject = mine;
  await film.play();
  say("The camera is on.");
  let before = performance.now();
  while (stream === mine) { // one picture on its way at a time: always the newest
    const still = document.createElement("canvas");
    still.width = film.videoWidth; still.height = film.videoHeight;
    still.getContext("2d").drawImage(film, 0, 0);
    const blob = await new Promise((done) => still.toBlob(done, "image/jpeg", 0.85));
    try {
      await detect(blob, still);
      result.source = "camera";
      const now = performance.now();
      say(`The camera is on: ${(1000 / (now - before)).toFixed(1)} pictures a second.`);
      before = now;
    } catch (error) {
      if (error.status !== 429) { say(error.message, true); break; }
      await new Promise((done) => setTimeout(done, 500));
    }
  }
  if (stream === mine) stop();
}

function stop() {
  for (const track of stream ? stream.getTracks() : []) track.stop();
  stream = null;
  $("camera").setAttribute("aria-pressed", "false");
  $("camera").textContent = "Use this computer's camera";
}

function save(kind) {
  const found = kept(), keep = (blob, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob); link.download = name; link.click();
  };
  if (kind === "picture") return canvas.toBlob((blob) => keep(blob, "boxes.png"));
  if (kind === "json") return keep(new Blob([JSON.stringify({ ...result, detections: found }, null, 1)],
    { type: "application/json" }), "detections.json");
  const quote = (value) => /[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;
  const rows = found.map((one) => [result.source, result.frame, result.time_s, result.width, result.height,
    one.label, one.score, ...one.box_px].map(quote).join(","));
  const head = "source,frame,time_s,width,height,label,score,xmin,ymin,xmax,ymax";
  keep(new Blob([[head, ...rows, ""].join("\r\n")], { type: "text/csv" }), "detections.csv");
}

$("file").addEventListener("change", (event) => event.target.files[0] && take(event.target.files[0]));
$("sample").addEventListener("change", async (event) => {
  const name = event.target.value;
  if (name) take(await (await ask(`/v1/samples/${name}`)).blob(), name);
});
$("camera").addEventListener("click", camera);
$("score").addEventListener("input", () => { moved = true; show(); });
$("door").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value;
  start().catch((error) => say(error.message, true));
});
for (const button of document.querySelectorAll("[data-save]"))
  button.addEventListener("click", () => save(button.dataset.save));
addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
addEventListener("dragleave", () => $("drop").classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  if (event.dataTransfer.files[0]) take(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => event.clipboardData.files[0] && take(event.clipboardData.files[0]));
start().catch((error) => say(error.message, true));
