# Where `cmake --install` puts what is not a binary; the modules install theirs.
include(GNUInstallDirs)
# /etc whatever the prefix: that is where the agent looks.
set(WEIR_SYSCONFDIR /etc CACHE PATH "Where the default configuration is installed")
# BoringSSL's libraries are not in a directory that the loader searches by itself.
set(CMAKE_INSTALL_RPATH_USE_LINK_PATH ON)
if(NOT WEIR_FUZZ)
  install(FILES ${CMAKE_SOURCE_DIR}/deploy/systemd/weir-agent.service
    DESTINATION lib/systemd/system)
  install(FILES ${CMAKE_SOURCE_DIR}/deploy/systemd/agent.yaml
    DESTINATION ${WEIR_SYSCONFDIR}/weir)
  install(DIRECTORY DESTINATION ${WEIR_SYSCONFDIR}/weir/mesh.d)
  install(FILES ${CMAKE_SOURCE_DIR}/share/weir/node-hook.cjs
    DESTINATION ${CMAKE_INSTALL_DATADIR}/weir)
  install(FILES ${CMAKE_SOURCE_DIR}/man/weir-agent.8 DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)
endif()
