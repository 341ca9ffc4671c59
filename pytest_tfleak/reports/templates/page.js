"use strict";
(() => {
  const table = document.getElementById("tests");
  const controls = document.getElementById("controls");
  const search = document.getElementById("search");
  const shown = document.getElementById("shown");
  const boxes = [...controls.querySelectorAll("[type=checkbox]")];
  const order = boxes.map((box) => box.value);
  const number = (text) => (text === "" ? null : Number(text));
  const units = []; // in the order of the worst test of each
  const tests = [...table.tBodies].map((body, place) => {
    const name = body.rows[0].cells[1].textContent.trim();
    const brief = body.querySelector("summary").firstChild.data;
    const status = body.className;
    const unit = body.dataset.unit;
    if (!units.includes(unit)) units.push(unit);
    return {
      body,
      status,
      name,
      text: `${name}\n${brief}\n${body.rows[0].cells[2].textContent}`.toLowerCase(),
      place, // the page is in this order, worst first
      unit: units.indexOf(unit),
      growth: number(body.dataset.growth),
      verdict: -order.indexOf(status),
      memory: number(body.dataset.memory),
      iterations: number(body.dataset.iterations),
      seconds: number(body.dataset.seconds),
    };
  });

  function filter() {
    const wanted = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const test of tests) {
      const fits =
        wanted.has(test.status) && words.every((word) => test.text.includes(word));
      test.body.hidden = !fits;
      count += fits;
    }
    shown.textContent = `${count.toLocaleString("en")} of ${tests.length.toLocaleString("en")} tests shown`;
  }

  function sort(header) {
    const key = header.dataset.sort;
    const first = key === "name" ? "ascending" : "descending";
    const other = first === "ascending" ? "descending" : "ascending";
    const way = header.getAttribute("aria-sort") === first ? other : first;
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", way);
    const sign = way === "ascending" ? 1 : -1;
    const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
    // what was not measured is last either way; rates of one unit stay together
    tests.sort(
      (a, b) =>
        (a[key] === null) - (b[key] === null) ||
        (key === "growth" && a.unit - b.unit) ||
        sign * compare(a[key], b[key]) ||
        a.place - b.place,
    );
    for (const test of tests) test.body.classList.remove("ready");
    table.append(...tests.map((test) => test.body));
    prepare();
  }

  // Content that the browser does not render is missing for screen readers, too. So
  // render all of it, a few tests at a time: then 2,000 tests open and sort quickly.
  const whenIdle = window.requestIdleCallback || setTimeout;
  let round = 0;
  function prepare() {
    const mine = ++round;
    let next = 0;
    const some = () => {
      if (mine !== round) return;
      const end = Math.min(next + 40, tests.length);
      while (next < end) tests[next++].body.classList.add("ready");
      if (next < tests.length) whenIdle(some);
    };
    whenIdle(some);
  }

  for (const header of table.tHead.querySelectorAll("[data-sort]")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    button.addEventListener("click", () => sort(header));
    header.append(button);
  }
  // a click on a test's figures opens it, too; from the keyboard, use its summary
  table.addEventListener("click", (event) => {
    const row = event.target.closest("tbody > tr:first-child");
    if (!row || row.closest(".test") || String(getSelection())) return;
    const details = row.parentNode.querySelector("details");
    details.open = !details.open;
  });
  // a test's details stay one text node until it is opened, so that 2,000 load quickly
  const fill = (details) => {
    const text = details.querySelector("noscript");
    if (!text) return;
    text.outerHTML = text.textContent;
    for (const source of details.querySelectorAll("[data-copy]")) addCopyButton(source);
  };
  document.addEventListener("toggle", (event) => fill(event.target), true);
  document.querySelectorAll("details[open]").forEach(fill);

  function addCopyButton(source) {
    const { copy, copies } = source.dataset;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    const say = (text) => {
      button.textContent = text;
      button.setAttribute("aria-label", `${text}: ${copies}`);
    };
    say(copy);
    button.addEventListener("click", async () => {
      say((await copyText(source.textContent)) ? "Copied" : "Not copied");
      setTimeout(say, 2000, copy);
    });
    source.after(" ", button);
  }

  async function copyText(text) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // pages of plain HTTP have no clipboard but this
      const area = document.createElement("textarea");
      const focused = document.activeElement;
      area.className = "unseen";
      area.value = text;
      document.body.append(area);
      area.select();
      const isCopied = document.execCommand("copy");
      area.remove();
      focused.focus();
      return isCopied;
    }
  }

  // a link to a test, from a leak or from elsewhere, opens it, even if it is filtered out
  function reveal() {
    const test = document.getElementById(location.hash.slice(1));
    const details = test && test.querySelector("details");
    if (!details) return;
    test.hidden = false;
    details.open = true;
    test.scrollIntoView();
  }
  addEventListener("hashchange", reveal);

  // on paper all leaks are open, and those tests that are open on the screen
  let opened = [];
  addEventListener("beforeprint", () => {
    const rest = document.querySelector("#leaks > details");
    if (rest) fill(rest);
    opened = [...document.querySelectorAll("#leaks details:not([open])")];
    for (const details of opened) details.open = true;
  });
  addEventListener("afterprint", () => {
    for (const details of opened) details.open = false;
  });
  controls.addEventListener("input", filter);
  controls.addEventListener("submit", (event) => event.preventDefault());
  controls.hidden = false;
  filter();
  prepare();
  reveal();
})();
