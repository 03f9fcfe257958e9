# weir_bpf_program(NAME): bpf/progs/NAME.bpf.c -> NAME.bpf.o -> NAME.skel.h, as an
# interface library bpf_NAME. vmlinux.h comes from the BTF of the build machine's
# kernel; field offsets are relocated when the program is loaded (CO-RE).
set(WEIR_VMLINUX_BTF /sys/kernel/btf/vmlinux CACHE FILEPATH "Kernel type information for vmlinux.h")
set(WEIR_BPF_DIR ${CMAKE_BINARY_DIR}/bpf)
file(MAKE_DIRECTORY ${WEIR_BPF_DIR}/skel)
add_custom_command(
  OUTPUT ${WEIR_BPF_DIR}/vmlinux.h
  COMMAND ${WEIR_BPFTOOL} btf dump file ${WEIR_VMLINUX_BTF} format c > ${WEIR_BPF_DIR}/vmlinux.h.tmp
  COMMAND ${CMAKE_COMMAND} -E rename ${WEIR_BPF_DIR}/vmlinux.h.tmp ${WEIR_BPF_DIR}/vmlinux.h
  COMMENT "vmlinux.h")
add_custom_target(weir_vmlinux DEPENDS ${WEIR_BPF_DIR}/vmlinux.h)

function(weir_bpf_program name)
  set(object ${WEIR_BPF_DIR}/${name}.bpf.o)
  set(skeleton ${WEIR_BPF_DIR}/skel/${name}.skel.h)
  string(REGEX REPLACE "^x86_64$" "x86" arch ${CMAKE_SYSTEM_PROCESSOR})
  string(REGEX REPLACE "^aarch64$" "arm64" arch ${arch})
  add_custom_command(
    OUTPUT ${object}
    COMMAND ${WEIR_BPF_CLANG} -target bpf -D__TARGET_ARCH_${arch} -mcpu=v3 -O2 -g -std=gnu11
            -Wall -Werror -I ${CMAKE_SOURCE_DIR} -isystem ${WEIR_BPF_DIR}
            -MD -MF ${object}.d -MT ${object}
            -c ${CMAKE_SOURCE_DIR}/bpf/progs/${name}.bpf.c -o ${object}
    DEPENDS ${CMAKE_SOURCE_DIR}/bpf/progs/${name}.bpf.c ${WEIR_BPF_DIR}/vmlinux.h
    DEPFILE ${object}.d
    COMMENT "BPF ${name}")
  add_custom_command(
    OUTPUT ${skeleton}
    COMMAND ${WEIR_BPFTOOL} gen skeleton ${object} name ${name} > ${skeleton}.tmp
    COMMAND ${CMAKE_COMMAND} -E rename ${skeleton}.tmp ${skeleton}
    DEPENDS ${object}
    COMMENT "skeleton ${name}")
  add_custom_target(bpf_${name}_skeleton DEPENDS ${skeleton})
  add_library(bpf_${name} INTERFACE)
  add_dependencies(bpf_${name} bpf_${name}_skeleton)
  target_include_directories(bpf_${name} SYSTEM INTERFACE ${WEIR_BPF_DIR}/skel)
endfunction()
