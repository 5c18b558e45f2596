"use strict";
// Everything on the page but the first paint: which frame, which token, which scales. Text goes in as text only.
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const slider = $("slider"), chosen = $("chosen"), drawing = chosen.getContext("2d");
const boxes = [...document.querySelectorAll("#scales input")];
const panes = [...document.querySelectorAll(".pane")];
const state = { frame: 0, token: null, timer: null };

chosen.width = data.width * data.zoom;
chosen.height = data.height * data.zoom;
for (const pane of panes) pane.classList.toggle("sharp", data.zoom > 1);
const pictures = data.frames.map(({ source, painted }) => {
  const image = new Image();
  image.src = source || painted;
  return image;
});

const shown = (scale) => boxes[scale].checked;

function place(frame, token) {
  const scale = frame.scale[token], side = data.sides[scale];
  return { scale, side, left: frame.col[token] * side, top: frame.row[token] * side };
}

function drawChosen() {
  const frame = data.frames[state.frame], image = pictures[state.frame];
  if (!image.complete) { image.onload = drawChosen; return; }
  const zoom = data.zoom, width = chosen.width, height = chosen.height;
  drawing.imageSmoothingEnabled = zoom === 1;
  drawing.filter = "grayscale(1) brightness(0.32)";
  drawing.drawImage(image, 0, 0, width, height);
  drawing.filter = "none";
  const kx = image.naturalWidth / data.width, ky = image.naturalHeight / data.height;
  const order = frame.scale.map((_, token) => token).filter((token) => shown(frame.scale[token]));
  order.sort((a, b) => frame.scale[a] - frame.scale[b]);
  for (const token of order) {
    const { left, top, side } = place(frame, token);
    drawing.drawImage(image, left * kx, top * ky, side * kx, side * ky, left * zoom, top * zoom, side * zoom, side * zoom);
  }
  for (const token of order) {
    const { left, top, side, scale } = place(frame, token), line = Math.max(1, Math.min(3, side * zoom / 10));
    drawing.strokeStyle = data.colours[scale];
    drawing.lineWidth = line;
    drawing.strokeRect(left * zoom + line / 2, top * zoom + line / 2, side * zoom - line, side * zoom - line);
  }
}

function moveCursors(index) {
  const last = Math.max(1, data.num_frames - 1);
  for (const id of ["at-tokens", "at-psnr"]) $(id).querySelector(".cursor").style.left = `${100 * index / last}%`;
}

function showFrame(number) {
  const frame = data.frames[state.frame = Math.max(0, Math.min(data.frames.length - 1, number))];
  state.token = null;
  slider.value = state.frame;
  $("painted").src = frame.painted;
  if (frame.source) $("source").src = frame.source;
  $("frame").textContent = `frame ${frame.index + 1} of ${data.num_frames} · ${frame.time.toFixed(2)} s · `
    + `${frame.scale.length} tokens · PSNR ${frame.psnr.toFixed(1)} dB · mean error ${frame.l1.toFixed(2)} of 255`;
  boxes.forEach((box, scale) => {
    box.parentElement.querySelector(".count").textContent = frame.scale.filter((s) => s === scale).length;
  });
  moveCursors(frame.index);
  drawChosen();
  showToken();
}

function showToken() {
  for (const box of document.querySelectorAll(".pane .box")) box.remove();
  const frame = data.frames[state.frame], token = state.token, list = $("token");
  list.replaceChildren();
  $("hint").hidden = token !== null;
  $("zoom").hidden = token === null;
  if (token === null) return;
  const { scale, side, left, top } = place(frame, token);
  const loss = frame.loss ? frame.loss[token] : null;
  const rows = [
    ["token", `${token + 1} of ${frame.scale.length} in this frame, as chosen`],
    ["scale", `${scale}, a square of ${side} px`],
    ["place", `row ${frame.row[token]}, column ${frame.col[token]}`],
    ["rank", `${frame.rank[token]} in its tile`],
    ["loss before", loss === null ? "none: this selector predicts none" : String(loss)],
  ];
  for (const [name, text] of rows) {
    const term = document.createElement("dt"), value = document.createElement("dd");
    term.textContent = name;
    value.textContent = text;
    list.append(term, value);
  }
  for (const pane of panes) {
    const box = document.createElement("div");
    box.className = "box";
    box.style.left = `${100 * left / data.width}%`;
    box.style.top = `${100 * top / data.height}%`;
    box.style.width = `${100 * side / data.width}%`;
    box.style.height = `${100 * side / data.height}%`;
    pane.append(box);
  }
  const image = pictures[state.frame], zoom = $("zoom").getContext("2d");
  const kx = image.naturalWidth / data.width, ky = image.naturalHeight / data.height;
  zoom.imageSmoothingEnabled = false;
  zoom.drawImage(image, left * kx, top * ky, side * kx, side * ky, 0, 0, 112, 112);
}

function tokenAt(event) {
  const room = chosen.getBoundingClientRect(), frame = data.frames[state.frame];
  const x = (event.clientX - room.left) / room.width * data.width;
  const y = (event.clientY - room.top) / room.height * data.height;
  const under = frame.scale.map((_, token) => token).filter((token) => {
    const { scale, side, left, top } = place(frame, token);
    return shown(scale) && x >= left && x < left + side && y >= top && y < top + side;
  }).sort((a, b) => frame.scale[b] - frame.scale[a]);
  if (!under.length) return null;
  return under[(under.indexOf(state.token) + 1) % under.length];  // a second click: the one below
}

function step(by) {
  const frame = data.frames[state.frame], count = frame.scale.length;
  let token = state.token === null ? (by > 0 ? -1 : count) : state.token;
  do token += by; while (token >= 0 && token < count && !shown(frame.scale[token]));
  if (token >= 0 && token < count) { state.token = token; showToken(); }
}

function play(on) {
  clearTimeout(state.timer);
  state.timer = null;
  $("play").textContent = on ? "Pause" : "Play";
  if (!on) return;
  if (state.frame === data.frames.length - 1) showFrame(0);
  const next = () => {
    if (state.frame === data.frames.length - 1) { play(false); return; }
    showFrame(state.frame + 1);
    state.timer = setTimeout(next, wait());
  };
  const wait = () => {
    const here = data.frames[state.frame].time, then = (data.frames[state.frame + 1] || { time: here }).time;
    return Math.max(30, Math.min(2000, 1000 * (then - here)));
  };
  state.timer = setTimeout(next, wait());
}

function nearest(index) {
  let best = 0;
  data.frames.forEach((frame, number) => {
    if (Math.abs(frame.index - index) < Math.abs(data.frames[best].index - index)) best = number;
  });
  return best;
}

slider.addEventListener("input", () => { play(false); showFrame(Number(slider.value)); });
$("play").addEventListener("click", () => play(state.timer === null));
chosen.addEventListener("click", (event) => { play(false); state.token = tokenAt(event); showToken(); });
for (const box of boxes) box.addEventListener("change", () => { state.token = null; drawChosen(); showToken(); });
for (const id of ["at-tokens", "at-psnr"]) {
  $(id).addEventListener("click", (event) => {
    const room = $(id).getBoundingClientRect();
    showFrame(nearest((event.clientX - room.left) / room.width * (data.num_frames - 1)));
  });
}
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey) return;
  const onSlider = event.target === slider, onControl = event.target.matches("button, input[type=checkbox]");
  const actions = {
    ArrowLeft: () => onSlider || showFrame(state.frame - 1),
    ArrowRight: () => onSlider || showFrame(state.frame + 1),
    Home: () => onSlider || showFrame(0),
    End: () => onSlider || showFrame(data.frames.length - 1),
    " ": () => onControl || play(state.timer === null),
    n: () => step(1),
    p: () => step(-1),
    Escape: () => { state.token = null; showToken(); },
  };
  const handled = event.key in actions && actions[event.key]();
  if (event.key in actions && handled !== true) event.preventDefault();
});
showFrame(0);
