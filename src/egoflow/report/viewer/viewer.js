"use strict";
// The report's player and 3-D view. No library and no network: it must open from a folder, years from now.
// window.EGOFLOW is written beside it (data.js): frames, layers, paths, and the cloud as base64.

(function () {
  const data = window.EGOFLOW, $ = (id) => document.getElementById(id);
  const state = { frame: 0, playing: false, layers: [0, Math.min(1, data.layers.length - 1)], last: 0, carry: 0 };
  const listeners = [];

  // ---- player ----
  const kept = new Map();
  function picture(layer, frame) {
    // A file's name may hold # or ?, which in an address begin something else.
    const address = `${data.layers[layer].folder}/${encodeURIComponent(data.names[frame])}.${data.layers[layer].ending}`;
    if (!kept.has(address)) {
      const image = new Image();
      image.src = address;
      kept.set(address, image);
      if (kept.size > 240) kept.delete(kept.keys().next().value);
    }
    return kept.get(address);
  }

  function legend(box, layer) {
    box.replaceChildren();
    const about = data.layers[layer].legend;
    const add = (tag, name, text) => {
      const part = document.createElement(tag);
      if (name) part.className = name;
      if (text) part.textContent = text;
      box.append(part);
      return part;
    };
    if (!about) return;
    if (about.colours) {
      add("span", "", about.low);
      add("span", "ramp").style.background = `linear-gradient(to right, ${about.colours.join(",")})`;
      add("span", "", about.high);
    }
    if (about.wheel) {
      add("span", "wheel").style.background = `conic-gradient(from 90deg, ${about.wheel.join(",")})`;
    }
    add("span", "", about.words);
  }

  function show() {
    state.layers.forEach((layer, pane) => {
      const image = $(`picture${pane}`), about = data.layers[layer];
      image.src = picture(layer, state.frame).src;
      image.alt = `${about.label}, frame ${data.names[state.frame]}`;
    });
    $("scrub").value = state.frame;
    $("scrub").setAttribute("aria-valuetext", `frame ${data.names[state.frame]}`);
    // Of images without time stamps nobody knows the time.
    const time = data.time_s ? ` · ${data.time_s[state.frame].toFixed(2)} s` : "";
    $("where").textContent = `${data.names[state.frame]} · ${state.frame + 1} of ${data.names.length}${time}`;
    for (let ahead = 1; ahead <= 8; ahead++) {
      const next = (state.frame + ahead) % data.names.length;
      state.layers.forEach((layer) => picture(layer, next));
    }
    listeners.forEach((tell) => tell());
  }

  function go(frame) {
    const count = data.names.length;
    state.frame = ((frame % count) + count) % count;
    show();
  }

  function play(on) {
    state.playing = on;
    $("play").textContent = on ? "Pause" : "Play";
    $("play").setAttribute("aria-pressed", String(on));
    state.last = performance.now();
    if (on) requestAnimationFrame(tick);
  }

  function tick(now) {
    if (!state.playing) return;
    state.carry += (now - state.last) / 1000 * data.frames_per_s * Number($("speed").value);
    state.last = now;
    const steps = Math.floor(state.carry);
    // Wait for a picture that is not there yet, so that the panes never show two different frames.
    const ready = state.layers.every((layer) => picture(layer, (state.frame + 1) % data.names.length).complete);
    if (steps > 0 && ready) {
      state.carry -= steps;
      go(state.frame + Math.min(steps, 4));
    }
    requestAnimationFrame(tick);
  }

  function choose(pane, layer) {
    state.layers[pane] = layer;
    $(`layer${pane}`).value = layer;
    legend($(`legend${pane}`), layer);
    show();
  }

  function keys(event) {
    // Those are the browser's: back, another tab.
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const inside = event.target.tagName;
    if (inside === "SELECT" || inside === "INPUT" && event.target.type !== "range") return;
    if (event.target.id === "scene" && event.key.startsWith("Arrow")) return;
    const number = Number(event.key);
    // A button that has the focus is pressed by the space bar itself.
    if (event.key === " " && inside === "BUTTON") return;
    if (event.key === " ") play(!state.playing);
    else if (event.key === "ArrowRight") go(state.frame + (event.shiftKey ? 10 : 1));
    else if (event.key === "ArrowLeft") go(state.frame - (event.shiftKey ? 10 : 1));
    else if (event.key === "Home") go(0);
    else if (event.key === "End") go(data.names.length - 1);
    else if (number >= 1 && number <= data.layers.length) choose(1, number - 1);
    else return;
    event.preventDefault();
  }

  function player() {
    $("scrub").max = data.names.length - 1;
    $("scrub").addEventListener("input", () => go(Number($("scrub").value)));
    $("play").addEventListener("click", () => play(!state.playing));
    $("back").addEventListener("click", () => go(state.frame - 1));
    $("on").addEventListener("click", () => go(state.frame + 1));
    [0, 1].forEach((pane) => {
      data.layers.forEach((layer, number) => {
        const option = document.createElement("option");
        option.value = number;
        option.textContent = `${number + 1} ${layer.label}`;
        $(`layer${pane}`).append(option);
      });
      $(`layer${pane}`).addEventListener("change", (event) => choose(pane, Number(event.target.value)));
    });
    // The scrubber's own arrow keys would step twice.
    document.addEventListener("keydown", keys);
    choose(0, state.layers[0]);
    choose(1, state.layers[1]);
  }

  // ---- 3-D ----
  function bytes(text) {
    const raw = atob(text), out = new Uint8Array(raw.length);
    for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
    return out.buffer;
  }

  function program(gl, vertex, fragment) {
    const made = gl.createProgram();
    [[gl.VERTEX_SHADER, vertex], [gl.FRAGMENT_SHADER, fragment]].forEach(([kind, source]) => {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, source);
      gl.compileShader(shader);
      if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
      gl.attachShader(made, shader);
    });
    gl.linkProgram(made);
    return made;
  }

  const VERTEX = `attribute vec3 place; attribute vec3 colour; uniform mat4 view; uniform float size; varying vec3 shade;
    void main() { gl_Position = view * vec4(place, 1.0); shade = colour;
                  gl_PointSize = clamp(size / gl_Position.w, 1.0, 12.0); }`;
  const FRAGMENT = "precision mediump float; varying vec3 shade; void main() { gl_FragColor = vec4(shade, 1.0); }";

  function multiply(a, b) {
    const out = new Float32Array(16);
    for (let c = 0; c < 4; c++) for (let r = 0; r < 4; r++) {
      let sum = 0;
      for (let k = 0; k < 4; k++) sum += a[k * 4 + r] * b[c * 4 + k];
      out[c * 4 + r] = sum;
    }
    return out;
  }

  function scene() {
    const canvas = $("scene"), gl = canvas.getContext("webgl", { antialias: true });
    if (!gl) { $("nogl").hidden = false; canvas.hidden = true; return; }
    const points = new Float32Array(bytes(data.cloud.points)), colours = new Uint8Array(bytes(data.cloud.colours));
    const made = program(gl, VERTEX, FRAGMENT);
    gl.useProgram(made);
    const at = { place: gl.getAttribLocation(made, "place"), colour: gl.getAttribLocation(made, "colour") };
    const uniform = { view: gl.getUniformLocation(made, "view"), size: gl.getUniformLocation(made, "size") };
    gl.enable(gl.DEPTH_TEST);
    gl.enableVertexAttribArray(at.place);
    gl.enableVertexAttribArray(at.colour);

    function buffers(places, shades) {
      return [places, shades].map((values) => {
        const buffer = gl.createBuffer();
        gl.bindBuffer(gl.ARRAY_BUFFER, buffer);
        gl.bufferData(gl.ARRAY_BUFFER, values, gl.DYNAMIC_DRAW);
        return buffer;
      });
    }
    function draw(pair, kind, count) {
      gl.bindBuffer(gl.ARRAY_BUFFER, pair[0]);
      gl.vertexAttribPointer(at.place, 3, gl.FLOAT, false, 0, 0);
      gl.bindBuffer(gl.ARRAY_BUFFER, pair[1]);
      gl.vertexAttribPointer(at.colour, 3, gl.UNSIGNED_BYTE, true, 0, 0);
      gl.drawArrays(kind, 0, count);
    }
    const painted = (count, colour) => {
      const out = new Uint8Array(3 * count);
      for (let i = 0; i < count; i++) out.set(colour, 3 * i);
      return out;
    };
    const cloud = buffers(points, colours), paths = data.paths.map((path) => ({
      count: path.places.length, pair: buffers(new Float32Array(path.places.flat()),
        painted(path.places.length, path.colour)) }));
    const frustum = buffers(new Float32Array(48), painted(16, [255, 200, 60]));

    const home = () => {
      const places = data.paths[0].places, middle = places[Math.floor(places.length / 2)];
      let span = 1e-6;
      places.forEach((p) => { span = Math.max(span, Math.hypot(p[0] - middle[0], p[2] - middle[2])); });
      // From the side of where the camera looks: from behind, a long drive is a dot.
      const pose = data.world_from_cam[Math.floor(data.world_from_cam.length / 2)];
      // The scene lies ahead of the path.
      const target = middle.map((value, k) => value + 0.7 * data.median_depth * pose[k][2]);
      const found = { target, yaw: Math.atan2(pose[0][2], pose[2][2]) + 0.9, pitch: 0.5,
        distance: 0.4 * Math.max(span, 3 * data.median_depth) };
      while (!places.every((place) => inside(view(found), place)) && found.distance < 100 * span) found.distance *= 1.1;
      return found;
    };
    // With a margin in which what stands beside the path has room.
    const inside = (m, p) => {
      const [x, y, w] = [0, 1, 3].map((r) => m[r] * p[0] + m[4 + r] * p[1] + m[8 + r] * p[2] + m[12 + r]);
      return Math.abs(x) < 0.85 * w && Math.abs(y) < 0.75 * w;
    };
    let camera = home();

    function view({ target, yaw, pitch, distance }) {
      const aspect = canvas.clientWidth / Math.max(1, canvas.clientHeight);
      const cy = Math.cos(yaw), sy = Math.sin(yaw), cp = Math.cos(pitch), sp = Math.sin(pitch);
      // World y points down: the picture's up is -y.
      const right = [cy, 0, -sy], ahead = [sy * cp, sp, cy * cp];
      const down = [ahead[1] * right[2] - ahead[2] * right[1], ahead[2] * right[0] - ahead[0] * right[2],
        ahead[0] * right[1] - ahead[1] * right[0]];
      const eye = target.map((value, k) => value - distance * ahead[k]);
      const dot = (v) => -(v[0] * eye[0] + v[1] * eye[1] + v[2] * eye[2]);
      const look = new Float32Array([right[0], -down[0], -ahead[0], 0, right[1], -down[1], -ahead[1], 0,
        right[2], -down[2], -ahead[2], 0, dot(right), -dot(down), -dot(ahead), 1]);
      const near = distance / 200, far = distance * 60, f = 1.6;
      const lens = new Float32Array([f / aspect, 0, 0, 0, 0, f, 0, 0, 0, 0, (far + near) / (near - far), -1,
        0, 0, 2 * far * near / (near - far), 0]);
      return multiply(lens, look);
    }

    function frame() {
      const corners = data.frustum, size = 0.25 * data.median_depth, world = data.world_from_cam[state.frame];
      const put = (p) => [0, 1, 2].map((r) => world[r][0] * p[0] * size + world[r][1] * p[1] * size
        + world[r][2] * p[2] * size + world[r][3]);
      const eye = put([0, 0, 0]), ends = corners.map(put), lines = [];
      ends.forEach((end, k) => lines.push(...eye, ...end, ...end, ...ends[(k + 1) % 4]));
      gl.bindBuffer(gl.ARRAY_BUFFER, frustum[0]);
      gl.bufferData(gl.ARRAY_BUFFER, new Float32Array(lines), gl.DYNAMIC_DRAW);
    }

    let asked = false;
    function render() {
      asked = false;
      const scale = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
      canvas.width = Math.max(1, Math.round(box.width * scale));
      canvas.height = Math.max(1, Math.round(box.height * scale));
      gl.viewport(0, 0, canvas.width, canvas.height);
      gl.clearColor(0.05, 0.063, 0.08, 1);
      gl.clear(gl.COLOR_BUFFER_BIT | gl.DEPTH_BUFFER_BIT);
      gl.uniformMatrix4fv(uniform.view, false, view(camera));
      gl.uniform1f(uniform.size, data.cloud.cell * canvas.height * 1.2);
      draw(cloud, gl.POINTS, points.length / 3);
      // Over the cloud, which hides a path that runs through it.
      gl.disable(gl.DEPTH_TEST);
      // The first, the predicted one, last: over what it is compared with.
      [...paths].reverse().forEach((path) => draw(path.pair, gl.LINE_STRIP, path.count));
      frame();
      draw(frustum, gl.LINES, 16);
      gl.enable(gl.DEPTH_TEST);
    }
    const ask = () => { if (!asked) { asked = true; requestAnimationFrame(render); } };

    const fingers = new Map();
    let apart = 0;
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      apart = 0;
    });
    ["pointerup", "pointercancel"].forEach((name) => canvas.addEventListener(name, (event) => {
      fingers.delete(event.pointerId);
      apart = 0;
    }));
    function turn(dx, dy) {
      camera.yaw += dx;
      camera.pitch = Math.min(1.5, Math.max(-1.5, camera.pitch + dy));
      ask();
    }
    function pan(dx, dy) {
      const step = camera.distance / 400, cy = Math.cos(camera.yaw), sy = Math.sin(camera.yaw);
      camera.target[0] -= step * (dx * cy + dy * -sy);
      camera.target[2] -= step * (-dx * sy + dy * -cy);
      ask();
    }
    const zoom = (factor) => { camera.distance *= factor; ask(); };
    canvas.addEventListener("pointermove", (event) => {
      const before = fingers.get(event.pointerId);
      if (!before) return;
      const dx = event.clientX - before[0], dy = event.clientY - before[1];
      fingers.set(event.pointerId, [event.clientX, event.clientY]);
      if (fingers.size === 2) {
        const [one, two] = [...fingers.values()], now = Math.hypot(one[0] - two[0], one[1] - two[1]);
        if (apart > 0) zoom(apart / Math.max(now, 1));
        apart = now;
        pan(dx / 2, dy / 2);
      } else if (event.shiftKey || event.buttons === 2) pan(dx, dy);
      else turn(-dx * 0.006, dy * 0.006);
    });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoom(Math.exp(event.deltaY * 0.001)); },
      { passive: false });
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", () => { camera = home(); ask(); });
    canvas.addEventListener("keydown", (event) => {
      const moves = { ArrowLeft: () => turn(0.1, 0), ArrowRight: () => turn(-0.1, 0), ArrowUp: () => turn(0, 0.1),
        ArrowDown: () => turn(0, -0.1), "+": () => zoom(0.85), "-": () => zoom(1.18),
        r: () => { camera = home(); ask(); } };
      if (moves[event.key]) { moves[event.key](); event.preventDefault(); }
    });
    window.addEventListener("resize", ask);
    listeners.push(ask);
    window.egoflowCamera = () => ({ ...camera });
    ask();
  }

  if (data.cloud && data.paths.length) scene();
  player();
})();
