// Colour maps of 256 colours (three bytes each) and one colour per concept; tests compare them with matplotlib's and the figures'.
const MAPS = {
  viridis: "RAFURAJWRQRXRQVZRgdaRghcRgpdRgteRw1gRw5hRxBjRxFkRxNlSBRnSBZoSBdpSBhqSBpsSBttSBxuSB1vSB9wSCBxSCFzSCN0SCR1SCV2SCZ3SCh4SCl5Ryp6Ryx6Ry17Ry58Ry99RjB+RjJ+RjN/RjSARTWBRTeBRTiCRDmDRDqDRDuEQz2EQz6FQj+FQkCGQkGGQUKHQUSHQEWIQEaIP0eIP0iJPkmJPkqJPkyKPU2KPU6KPE+KPFCLO1GLO1KLOlOLOlSMOVWMOVaMOFiMOFmMN1qMN1uNNlyNNl2NNV6NNV+NNGCNNGGNM2KNM2ONMmSOMmWOMWaOMWeOMWiOMGmOMGqOL2uOL2yOLm2OLm6OLm+OLXCOLXGOLHGOLHKOLHOOK3SOK3WOKnaOKneOKniOKXmOKXqOKXuOKHyOKH2OJ36OJ3+OJ4COJoGOJoKOJoKOJYOOJYSOJYWOJIaOJIeOI4iOI4mOI4qNIouNIoyNIo2NIY6NIY+NIZCNIZGMIJKMIJKMIJOMH5SMH5WLH5aLH5eLH5iLH5mKH5qKHpuKHpyJHp2JH56JH5+IH6CIH6GIH6GHH6KHIKOGIKSGIaWFIaaFIqeFIqiEI6mDJKqDJauCJayCJq2BJ62BKK6AKa9/KrB/LLF+LbJ9LrN8L7R8MbV7MrZ6NLZ5Nbd5N7h4OLl3Orp2O7t1Pbx0P7xzQL1yQr5xRL9wRsBvSMFuSsFtTMJsTsNrUMRqUsVpVMVoVsZnWMdlWshkXMhjXsliYMpgY8tfZcteZ8xcac1bbM1abs5YcM9Xc9BWddBUd9FTetFRfNJQf9NOgdNNhNRLhtVJidVIi9ZGjtZFkNdDk9dBldhAmNg+m9k8ndk7oNo5oto3pds2qNs0qtwyrdwwsN0vst0ttd4ruN4put4ovd8mwN8lwt8jxeAhyOAgyuEfzeEd0OEc0uIb1eIa2OIZ2uMZ3eMY3+MY4uQY5eQZ5+QZ6uUa7OUb7+Uc8eUd9OYe9uYg+OYh++cj/ecl",
  cividis: "ACJOACNPACRRACVTACVUACZWACdYAChZAChbACldACpfACphACtiACxkACxmAC1oAC5qAC5sAC9tADBvADBwADFwADFxATJxBTNxCDNwDDRwDzVwEjVwFDZwFjdwGDdvGjhvHDlvHjpvIDpvITtuIzxuJDxuJj1uJz5uKT9uKj9tK0BtLUFtLkFtL0JtMUNtMkNtM0RtNEVsNUVsNkZsOEdsOUhsOkhsO0lsPEpsPUpsPktsP0xsQExsQU1sQk5sQ05sRE9sRVBsRlFsR1FsSFJsSVNsSlNsS1RsTFVsTVVsTlZsT1dsUFdsUVhtUlltU1ptVFptVVttVVxtVlxtV11tWF5tWV5uWl9uW2BuXGFuXWFuXmJuXmNvX2NvYGRvYWVvYmVvY2ZwZGdwZWhwZWhwZmlwZ2pxaGpxaWtxamxxa21ybG1ybG5ybW9ybm9zb3BzcHFzcXJ0cnJ0cnN0c3R1dHR1dXV1dnZ2d3d2d3d3eHh3eXl3enp4e3p4fHt4fXx4fnx4fn14f354gH94gX94goB5g4F5hIJ5hYJ5hoN5h4R4iIV4iYV4ioZ4i4d4jIh4jYh4jol4j4p4kIt4kYt4kox4ko14k454lI53lY93lpB3l5F3mJJ3mZJ3mpN2m5R2nJV2nZV2npZ2n5d1oJh1oZl1opl1o5p0pJt0pZx0ppx0p51zqJ5zqZ9zqqBzq6ByrKFyraJyrqNxr6RxsKVxsaVws6ZwtKdvtahvtqlvt6luuKpuuattuqxtu61tvK5sva5svq9rv7BrwLFqwbJqwrNpw7NpxLRoxbVoxrZnx7dnyLhmyblly7llzLpkzbtjzrxjz71i0L5i0b9h0sBg08Bf1MFf1cJe1sNd18Rc2cVc2sZb28da3MhZ3chY3slY38pX4MtW4cxV4s1U5M5T5c9S5tBR59FQ6NJP6dNO6tNM69RL7dVK7tZJ79dI8NhG8dlF8tpE89tC9dxB9t0/994++N88+eA6++E4/OI2/eM0/uQ0/uU1/uY2/ug4",
  magma: "AAAEAQAFAQEGAQEIAgEJAgILAgINAwMPAwMSBAQUBQQWBgUYBgUaBwYcCAceCQcgCggiCwkkDAkmDQopDgsrEAstEQwvEg0xEw00FA42FQ44Fg87GA89GRA/GhBCHBBEHRFHHhFJIBFLIRFOIhFQJBJTJRJVJxJYKRFaKhFcLBFfLRFhLxFjMRFlMxBnNBBpNhBrOBBsOQ9uOw9wPQ9xPw9yQA90Qg91RA92RRB3RxB4SRB4ShB5TBF6ThF7TxJ7URJ8UhN8VBN9VhR9VxV+WRV+WhZ+XBZ/XRd/Xxh/YBiAYhmAZBqAZRqAZxuAaByBahyBax2BbR2Bbh6BcB+Bch+BcyCBdSGBdiGBeCKBeSKCeyOCfCOCfiSCgCWCgSWBgyaBhCaBhieBiCeBiSiBiymBjCmBjiqBkCqBkSuBkyuAlCyAliyAmC2AmS2Amy5/nC5/ni9/oC9/oTB+ozB+pTF+pjF9qDJ9qjN9qzN8rTR8rjR7sDV7sjV7szZ6tTZ6tzd5uDd5ujh4vDl4vTl3vzp3wDp2wjt1xDx1xTx0xz1zyD5zyj5yzD9xzUBxz0Bw0EFv0kJv00Nu1URt1kVs2EVs2UZr20dq3Ehp3klo30po4Exn4k1m405l5E9k5VBk51Jj6FNi6VRi6lZh61dg7Fhg7Vpf7lte711e8F9e8WBd8mJd8mRc82Vc9Gdc9Glc9Wtc9mxc9m5c93Bc93Jc+HRc+HZc+Xhd+Xld+Xtd+n1e+n9e+oFf+4Nf+4Vg+4dh/Ilh/Ipi/Ixj/I5k/JBl/ZJm/ZRn/ZZo/Zhp/Zpq/Ztr/p1s/p9t/qFu/qNv/qVx/qdy/qlz/qp0/qx2/q53/rB4/rJ6/rR7/rZ8/rd+/rl//ruB/r2C/r+E/sGF/sKH/sSI/saK/siM/sqN/syP/s2Q/s+S/tGU/tOV/tWX/teZ/tia/dqc/dye/d6g/eCh/eKj/eOl/eWn/eep/emq/eus/Oyu/O6w/PCy/PK0/PS2/Pa4/Pe5/Pm7/Pu9/P2/",
  diverging: "LQBLLwJNMANQMgVSMwZVNQhXNglZOAtcOQxeOw5hPA9jPhFlPxJoQRRqQhVsRBdvRRhxRxp0SRx2Sh14TB97TSB9TyKAUCOCUiWEUyaHVSiJVyuKWC6MWjGNXDSOXTeQXzqRYT2TY0CUZEOVZkaXaEmYakyaa0+bbVKcb1WecFifcluhdF6idmGkd2SleWeme2qofW2pfnCrgHOsgnWthHevhnqwiHyyin6zjIC1joK2kIW4koe5lIm7lou8mI2+mZC/m5LBnZTCn5bEoZjFo5vHpZ3Ip5/KqaHLq6PNrabOr6jQsarRs6zStK7TtrDUt7HVubPWurXXvLfYvbnZv7vawL3bwr7cw8DdxcLexsTfyMbgycjhy8nizMvjzs3kz8/l0dHm0tPn1NTo1dbp19jq2Nrr2dvr2tzs3N3s3d/t3uDt3+Hu4eLu4uPv4+Tv5OXw5efw5+jx6Onx6ery6uvy6+zz7e3z7u7z7/D08PH08vL18/P19PT29fX29vb39/f29/bz+PXx+PTu+PPs+fLp+fHm+fDk+e/h+u7f+u7c+u3a+uzX++vV++rS++nP/OjN/OfK/ObI/OXF/eXD/eTA/eO+/eK7/uG5/uC2/t6z/t2v/tus/tqp/tim/tei/tWf/tOc/tKZ/tCV/s+S/s2P/cyM/cqI/ciF/ceC/cV//cR7/cJ4/cF1/b9y/b1u/bxr/bpo/bll/Ldh+7Ve+rNb+bFY+K5V96xS9qpP9KhM86ZJ8qRG8aJC8KA/75487ps57Zk265cz6pUw6ZMt6JEq548n5o0j5Yog44gd4oYa4YQX4IIU3oAT3H8T230S2XsS13oR1XgR1HYQ0nUQ0HMPznIPzXAOy24NyW0Nx2sMxmkMxGgLwmYLwGQKvmMKvWEJu18IuV4It1wHtloHtFkGslcGsFYGrlUGrFQGqlMGqFIGplEHpE8Hok4HoE0HnkwHnEsHmkoHl0kHlUgHk0YHkUUHj0QHjUMHi0IIiUEIh0AIhT4Igz0IgTwIfzsI",
};
const CONCEPT_COLOURS = [
  "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C", "#332288", "#882255",
  "#6B4423", "#F6C6D9",
];

const decoded = {};

/** The 256 colours of a map, as [r, g, b, r, ...]. */
function colourMap(name) {
  decoded[name] ??= Uint8Array.from(atob(MAPS[name]), (letter) => letter.charCodeAt(0));
  return decoded[name];
}

/** A map as a CSS gradient, from low to high. */
function gradient(name, direction = "to right") {
  const colours = colourMap(name);
  const stops = Array.from({ length: 17 }, (_, i) => {
    const at = 3 * Math.round((i * 255) / 16);
    return `rgb(${colours[at]},${colours[at + 1]},${colours[at + 2]})`;
  });
  return `linear-gradient(${direction}, ${stops.join(",")})`;
}

function conceptColour(index) {
  if (index < CONCEPT_COLOURS.length) return CONCEPT_COLOURS[index];
  return `hsl(${Math.round((index * 222.5) % 360)} 55% 50%)`;
}

/** [r, g, b] of any CSS colour. */
function rgbOf(colour) {
  const canvas = (rgbOf.canvas ??= Object.assign(document.createElement("canvas"), { width: 1, height: 1 }));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}
