"use strict";
document.documentElement.classList.add("js");
addEventListener("DOMContentLoaded", () => {
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  const controls = document.querySelector(".controls");
  const chosen = (name) => controls.elements[name] ? controls.elements[name].value : "";

  function show() {
    const net = chosen("net"), images = chosen("images");
    const pairs = all(".pair");
    for (const pair of pairs)
      pair.hidden = (net && pair.dataset.net !== net) || (images && pair.dataset.images !== images);
    for (const note of all(".absent")) note.hidden = all(".pair", note.parentElement).some((pair) => !pair.hidden);

    const text = chosen("text").trim().toLowerCase(), family = chosen("family"), verdict = chosen("verdict");
    for (const one of all(".one"))
      one.hidden = !((!text || one.dataset.text.includes(text)) && (!family || one.dataset.family === family)
        && (!verdict || one.dataset.verdict === verdict));
    for (const group of all(".group")) group.hidden = all(".one", group).every((one) => one.hidden);
    const table = all("#table .pair").find((pair) => !pair.hidden);
    const rows = table ? all("tbody tr", table) : [];
    document.querySelector("#shown").textContent =
      `${rows.filter((row) => !row.hidden).length} of ${rows.length} methods shown`;
  }

  function sort(button) {
    const head = button.closest("th"), place = [...head.parentElement.children].indexOf(head);
    const body = head.closest("table").tBodies[0];
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of head.parentElement.children) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.children[place].dataset.sort;
    const isNumber = head.classList.contains("n");
    const rows = [...body.rows].sort((one, two) => {
      const a = key(one), b = key(two);
      if (a === "" || b === "") return (a === "") - (b === "");  // what was not measured stands last either way
      const order = isNumber ? a - b : a.localeCompare(b);
      return down ? -order : order;
    });
    body.append(...rows);
  }

  function mix(slider) {
    const value = Number(slider.value);
    document.documentElement.style.setProperty("--map", Math.min(1, value / 50));
    document.documentElement.style.setProperty("--photo", Math.min(1, (100 - value) / 50));
    slider.setAttribute("aria-valuetext", value <= 0 ? "image alone" : value >= 100 ? "map alone" : `${value} % towards the map`);
  }

  controls.addEventListener("input", show);
  controls.addEventListener("reset", () => setTimeout(show));
  controls.addEventListener("submit", (event) => event.preventDefault());
  for (const button of all("th button")) button.addEventListener("click", () => sort(button));
  for (const slider of all("#mix")) { slider.addEventListener("input", () => mix(slider)); mix(slider); }
  for (const choice of all("#example")) {
    const pick = () => { for (const one of all(".example")) one.hidden = one.dataset.image !== choice.value; };
    choice.addEventListener("input", pick);
    pick();
  }
  show();
});
