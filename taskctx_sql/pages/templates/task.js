
// The slider over the revisions says where it stands, and goes there when it is let go.
document.documentElement.classList.add("scripted");
for (const form of document.querySelectorAll("form[data-time]")) {
  const slider = form.elements.revision;
  const said = form.querySelector("output");
  const format = new Intl.NumberFormat("en-US");
  slider.addEventListener("input", () => {
    said.textContent = `${format.format(slider.value)} of ${format.format(slider.max)}`;
  });
  // A form would change line breaks in ids.
  slider.addEventListener("change", () => location.assign(`${form.dataset.time}&revision=${slider.value}`));
}

// What is saved while the page is open comes as HTML that the server has made, as the rest of the page.
for (const section of document.querySelectorAll("[data-events]")) {
  const entries = section.querySelector("[data-entries]");
  const status = section.querySelector("[data-status]");
  const say = (text, isOff) => {
    status.textContent = text;
    status.hidden = false;
    status.classList.toggle("off", isOff);
  };
  const source = new EventSource(section.dataset.events);
  source.addEventListener("open", () => say("New updates appear here.", false));
  source.addEventListener("updates", (event) => {
    const isAtEnd = window.innerHeight + window.scrollY >= document.body.scrollHeight - 80;
    section.querySelector("[data-nothing]")?.remove();
    entries.insertAdjacentHTML("beforeend", JSON.parse(event.data).html);
    if (isAtEnd) window.scrollTo(0, document.body.scrollHeight);
  });
  source.addEventListener("removed", (event) => {
    for (const [seq, mark] of Object.entries(JSON.parse(event.data))) {
      const entry = entries.querySelector(`[data-seq="${seq}"]:not(.gone)`);
      if (!entry) continue;
      entry.classList.add("gone");
      entry.querySelector(".when").insertAdjacentHTML("beforebegin", mark);
    }
  });
  source.addEventListener("parts", (event) => {
    const parts = JSON.parse(event.data);
    for (const part of document.querySelectorAll("[data-live]")) {
      if (part.dataset.live in parts) part.innerHTML = parts[part.dataset.live];
    }
  });
  source.addEventListener("behind", () => location.reload());
  source.addEventListener("gone", () => {
    source.close();
    say("The task was deleted.", true);
  });
  source.addEventListener("error", () => {
    const isOver = source.readyState === EventSource.CLOSED;
    say(isOver ? "New updates do not appear here: reload the page for them." : "Connecting again ...", true);
  });
}
